"""The projection θ: hidden state of a parameter token → the values of its chunk, as z-scores.

in:  hidden states [networks, tokens, hidden] of the parameter tokens of one task
     and, where a list of classes repeats the tokens of a row, which tokens they are
out: [networks, tokens, hidden]: token t gives chunk t

`shared`    one head for all tokens of all tasks: out_t = head(norm(h_t) + layer_t + chunk_t). The embedding of the
            layer is learned. That of the chunk is a learned map of sinusoids, so that the head does not grow with |w|.
`per_token` one matrix per token; `low_rank` one matrix of rank r per token. Both grow with |w|; they are here for
            comparison.
A dense map from all hidden states to all parameters would hold about |w|² weights, and is not offered.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from neurogen.config import GeneratorConfig, ProjectionKind
from neurogen.targets.parameters import ParameterLayout
from neurogen.training.groups import PerTask

NUM_SINUSOIDS = 32
Index = Int64[Tensor, " tokens"]  # of the layout's tokens, where the states are not those of all of them in their order


def build_projection(config: GeneratorConfig, layouts: Mapping[str, ParameterLayout], width: int) -> nn.Module:
    """A module (hidden states, name of the task) → chunk values."""
    if config.projection == ProjectionKind.shared:
        return SharedProjection(layouts, width, config.projection_hidden)
    rank = config.projection_rank if config.projection == ProjectionKind.low_rank else None
    return TokenwiseProjection(layouts, width, rank)


def rms_norm(states: Float[Tensor, "*n hidden"]) -> Float[Tensor, "*n hidden"]:
    """Root mean square normalisation without learned weights."""
    return nn.functional.rms_norm(states, states.shape[-1:])


class SharedProjection(nn.Module):
    """One head for all tokens, linear or with one hidden layer."""

    def __init__(self, layouts: Mapping[str, ParameterLayout], width: int, hidden: int) -> None:
        super().__init__()
        self.places = PerTask.of(layouts, lambda layout: PlaceEmbedding(layout, width))
        self.chunk = nn.Linear(2 * NUM_SINUSOIDS, width, bias=False)
        nn.init.zeros_(self.chunk.weight)
        self.head: nn.Module = nn.Linear(width, width)
        if hidden:
            self.head = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(
        self, states: Float[Tensor, "*n tokens hidden"], task: str, index: Index | None = None
    ) -> Float[Tensor, "*n tokens hidden"]:
        """out_t = head(norm(h_t) + layer_t + chunk_t)."""
        layer, waves = (part if index is None else part[index] for part in self.places[task]())
        projected: Tensor = self.head(rms_norm(states) + layer + self.chunk(waves))
        return projected


class PlaceEmbedding(nn.Module):
    """The place of every token in its target: an embedding of its tensor, and sinusoids of its chunk's index."""

    def __init__(self, layout: ParameterLayout, width: int) -> None:
        super().__init__()
        self.layer = nn.Embedding(len(layout.names), width)
        self.tensors: Tensor
        self.waves: Tensor
        nn.init.zeros_(self.layer.weight)
        tensors, chunks = torch.tensor([(chunk.tensor, chunk.position) for chunk in layout.chunks(width)]).T
        angles = chunks[:, None] * torch.logspace(0, -3, NUM_SINUSOIDS)
        self.register_buffer("tensors", tensors, persistent=False)
        self.register_buffer("waves", torch.cat([angles.sin(), angles.cos()], 1), persistent=False)

    def forward(self) -> tuple[Float[Tensor, "tokens hidden"], Float[Tensor, "tokens waves"]]:
        """(embedding of the tensor, sinusoids of the chunk) of every token."""
        return self.layer(self.tensors), self.waves


class TokenwiseProjection(nn.Module):
    """A matrix per token; tasks of one layout share theirs."""

    def __init__(self, layouts: Mapping[str, ParameterLayout], width: int, rank: int | None) -> None:
        super().__init__()
        self.tasks = PerTask.of(layouts, lambda layout: TokenMatrices(len(layout.chunks(width)), width, rank))

    def forward(
        self, states: Float[Tensor, "*n tokens hidden"], task: str, index: Index | None = None
    ) -> Float[Tensor, "*n tokens hidden"]:
        """out_t = M_t norm(h_t) + b_t."""
        projected: Tensor = self.tasks[task](rms_norm(states), index)
        return projected


class TokenMatrices(nn.Module):
    """The matrices of one layout, full or as products of two of rank `rank`."""

    def __init__(self, num_tokens: int, width: int, rank: int | None) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_tokens, width))
        self.up = nn.Parameter(torch.randn(num_tokens, rank or width, width) * (3 * (rank or width)) ** -0.5)
        self.down = nn.Parameter(torch.randn(num_tokens, width, rank) * width**-0.5) if rank is not None else None

    def forward(
        self, states: Float[Tensor, "*n tokens hidden"], index: Index | None = None
    ) -> Float[Tensor, "*n tokens hidden"]:
        """M_t h_t + b_t."""
        chosen = slice(None) if index is None else index
        if self.down is not None:
            states = torch.einsum("...th,thr->...tr", states, self.down[chosen])
        return torch.einsum("...tr,trv->...tv", states, self.up[chosen]) + self.bias[chosen]
