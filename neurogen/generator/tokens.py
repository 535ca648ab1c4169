"""Parameter tokens P ∈ R^{d1×d} (paper 3.3.1): what the backbone reads where it is to say a chunk of parameters.

out: [tokens, hidden] for a layout of the target's parameters

`free`      a learned vector per token, as in the paper
`composed`  token_t = one vector for all + the embedding of its tensor + a learned map of its chunk's number: a new
            layout then needs a vector per tensor, and none per token
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurogen.generator.projection import NUM_SINUSOIDS, PlaceEmbedding
from neurogen.generator.shared import one_for_all_alike
from neurogen.targets.parameters import ParameterLayout


def build_tokens(kind: str, layouts: Mapping[str, ParameterLayout], width: int, std: float) -> nn.Module:
    """A module (task) → tokens, shared by tasks of one layout; they begin as widely spread as embeddings of words."""
    return FreeTokens(layouts, width, std) if kind == "free" else ComposedTokens(layouts, width, std)


class FreeTokens(nn.Module):
    def __init__(self, layouts: Mapping[str, ParameterLayout], width: int, std: float) -> None:
        super().__init__()

        def table(layout: ParameterLayout) -> nn.Module:
            tokens = std * torch.randn(len(layout.chunks(width)), width)
            return nn.Embedding(len(tokens), width, _weight=tokens)

        self.tables = one_for_all_alike(layouts, table)
        for name, layout in layouts.items():
            self.register_buffer(f"rows_{name}", torch.arange(len(layout.chunks(width))), persistent=False)

    def forward(self, task: str) -> Float[Tensor, "tokens hidden"]:
        tokens: Tensor = self.tables[task](self.get_buffer(f"rows_{task}"))
        return tokens


class ComposedTokens(nn.Module):
    def __init__(self, layouts: Mapping[str, ParameterLayout], width: int, std: float) -> None:
        super().__init__()
        self.base = nn.Parameter(std * torch.randn(width))
        self.chunk = nn.Linear(2 * NUM_SINUSOIDS, width, bias=False)
        nn.init.normal_(self.chunk.weight, std=std * NUM_SINUSOIDS**-0.5)

        def place(layout: ParameterLayout) -> nn.Module:
            embedding = PlaceEmbedding(layout, width)
            nn.init.normal_(embedding.layer.weight, std=std)
            return embedding

        self.places = one_for_all_alike(layouts, place)

    def forward(self, task: str) -> Float[Tensor, "tokens hidden"]:
        layer, waves = self.places[task]()
        tokens: Tensor = self.base + layer + self.chunk(waves)
        return tokens
