"""Parameter tokens P ∈ R^{d1×d} (paper 3.3.1): the inputs whose hidden states become chunks of parameters.

out: [tokens, hidden] for a layout of the target's parameters

`free`      a learned vector per token, as in the paper
`composed`  token_t = a common vector + the embedding of its tensor + a learned map of its chunk's index. A new layout
            then needs one vector per tensor instead of one per token.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurogen.config import TokenKind
from neurogen.generator.projection import NUM_SINUSOIDS, PlaceEmbedding
from neurogen.targets.parameters import ParameterLayout
from neurogen.training.groups import PerTask


def build_tokens(kind: TokenKind, layouts: Mapping[str, ParameterLayout], width: int, std: float) -> nn.Module:
    """A module (task) → tokens; tasks of one layout share theirs.

    `std` is that of the backbone's word embeddings: the tokens start as widely spread.
    """
    return FreeTokens(layouts, width, std) if kind == TokenKind.free else ComposedTokens(layouts, width, std)


class TokenTable(nn.Embedding):
    """The free tokens of one layout, one row each."""


class FreeTokens(nn.Module):
    """A learned vector per token."""

    learns_at_token_rate = True

    def __init__(self, layouts: Mapping[str, ParameterLayout], width: int, std: float) -> None:
        super().__init__()

        def table(layout: ParameterLayout) -> nn.Module:
            tokens = std * torch.randn(len(layout.chunks(width)), width)
            return TokenTable(len(tokens), width, _weight=tokens)

        self.tables = PerTask.of(layouts, table)
        for name, layout in layouts.items():
            self.register_buffer(f"rows_{name}", torch.arange(len(layout.chunks(width))), persistent=False)

    def forward(self, task: str) -> Float[Tensor, "tokens hidden"]:
        """The tokens of the task's layout."""
        tokens: Tensor = self.tables[task](self.get_buffer(f"rows_{task}"))
        return tokens


class ComposedTokens(nn.Module):
    """A common vector, plus an embedding of the tensor, plus a map of the chunk's index."""

    learns_at_token_rate = True

    def __init__(self, layouts: Mapping[str, ParameterLayout], width: int, std: float) -> None:
        super().__init__()
        self.base = nn.Parameter(std * torch.randn(width))
        self.chunk = nn.Linear(2 * NUM_SINUSOIDS, width, bias=False)
        nn.init.normal_(self.chunk.weight, std=std * NUM_SINUSOIDS**-0.5)

        def place(layout: ParameterLayout) -> nn.Module:
            embedding = PlaceEmbedding(layout, width)
            nn.init.normal_(embedding.layer.weight, std=std)
            return embedding

        self.places = PerTask.of(layouts, place)

    def forward(self, task: str) -> Float[Tensor, "tokens hidden"]:
        """The tokens of the task's layout."""
        layer, waves = self.places[task]()
        tokens: Tensor = self.base + layer + self.chunk(waves)
        return tokens
