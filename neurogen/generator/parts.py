"""What the backbone reads, part by part in reading order. Each kind of part is a type of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int32, Int64, UInt8
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
class SeenPicture(Embeddings):
    """A picture behind the vision encoder, with the mark of its beginning before it and that of its end behind it."""

    grid: Int64[Tensor, 3]  # size in time, height and width, on the CPU

    @property
    def is_image(self) -> Int32[Tensor, " tokens"]:
        """0 at both marks, 1 between them."""
        return torch.nn.functional.pad(torch.ones(len(self.vectors) - 2, dtype=torch.int32), (1, 1))


@dataclass(frozen=True, eq=False)
class ParameterTokens(Embeddings):
    """P (paper 3.3.1), or a group of its rows: the hidden states here become parameters."""


Part = Text | TokenIds | Picture | Embeddings


@dataclass(frozen=True)
class Placed:
    """Embedded sequences, and their positions where those are not simply counted."""

    parts: list[list[Float[Tensor, "_ hidden"]]]
    positions: list[Int64[Tensor, "3 _"]] | None

    @property
    def vectors(self) -> list[Float[Tensor, "_ hidden"]]:
        """Each sequence as one tensor."""
        return [torch.cat(parts) for parts in self.parts]

    @property
    def num_tokens(self) -> int:
        """Of all sequences."""
        return sum(len(part) for parts in self.parts for part in parts)
