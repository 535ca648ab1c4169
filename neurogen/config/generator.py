"""How the backbone is made a generator of parameters (paper 3.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from neurogen.config.identity import IF_SET
from neurogen.config.limits import FRACTION, NOT_NEGATIVE, POSITIVE


class TokenOrder(StrEnum):
    """The order of the sequence that the backbone reads."""

    context_first = "context_first"  # instruction and data, then parameter tokens
    tokens_first = "tokens_first"  # the paper's formula
    interleaved = "interleaved"  # as context_first, rows of the output layer behind the samples of their class


class TokenKind(StrEnum):
    """What parameter tokens consist of."""

    free = "free"  # a vector per token (paper)
    composed = "composed"  # a shared vector, one of its tensor and one of its chunk, so a new layout needs no new ones


class ProjectionKind(StrEnum):
    """What maps a hidden state to a chunk of parameters."""

    shared = "shared"  # one projection for all tokens
    per_token = "per_token"  # a matrix per token
    low_rank = "low_rank"  # a matrix of low rank per token


class ScaleKind(StrEnum):
    """What takes generated numbers to the size of parameters."""

    zscore = "zscore"  # mean and deviation of each tensor in the zoo
    fan_in = "fan_in"  # torch's initialisation; needs no zoo


@dataclass
class GeneratorConfig:
    """The sequence, the projection, and the contexts of training."""

    order: TokenOrder
    tokens: TokenKind
    projection: ProjectionKind
    projection_hidden: int = field(metadata=NOT_NEGATIVE)  # width of the shared projection's hidden layer; 0: linear
    projection_rank: int = field(metadata=POSITIVE)  # of projection=low_rank
    scale: ScaleKind
    soft_clip: float | None = field(metadata=POSITIVE)  # α of α·tanh(w/α); null: off
    context_samples: int = field(metadata=NOT_NEGATIVE)  # samples that the backbone reads
    context_warmup: float = field(metadata=FRACTION)  # fraction of stage 1's steps that have the contexts of stage 2
    # parameter tokens that are read at once, behind instruction and context; null: all of them, which see each other
    block_tokens: int | None = field(default=None, kw_only=True, metadata={"identity": IF_SET, **POSITIVE})
    # numbers that tell the networks of a generator apart (generator/latent.py); null: they hardly differ
    latent: int | None = field(default=None, kw_only=True, metadata={"identity": IF_SET, **POSITIVE})
    # Fractions of the contexts in both stages:
    drop_instruction: float = field(metadata=FRACTION)  # without the instruction
    drop_data: float = field(metadata=FRACTION)  # without data
    foreign_data: float = field(metadata=FRACTION)  # with data of another task of the generator; the instruction counts
