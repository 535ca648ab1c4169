"""What the backbone reads, part by part in reading order. Each kind of part is a type of its own."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int64, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Text:
    """Words, not yet tokenised: neighbouring texts are joined before they are."""

    text: str


@dataclass(frozen=True, eq=False)
class TokenIds:
    """Words, tokenised."""

    ids: Int64[Tensor, " tokens"]


@dataclass(frozen=True, eq=False)
class Picture:
    """An image for a backbone with a vision encoder."""

    pixels: UInt8[Tensor, "channels height width"]


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors that take the place of embedded tokens: the patches of an image."""

    vectors: Float[Tensor, "tokens hidden"]


@dataclass(frozen=True, eq=False)
class ParameterTokens(Embeddings):
    """P (paper 3.3.1), or a group of its rows: the hidden states here become parameters."""


Part = Text | TokenIds | Picture | Embeddings
