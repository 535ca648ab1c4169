"""From raw samples to what a target network reads, in the same way for training and for generated networks.

images  bytes [samples, channels, height, width]  ─► Normalisation  ─► pixels with mean 0 and std 1 per channel
texts   token ids, padded with −1                 ─► TokenEmbedding ─► [samples, tokens, embedding], zeros at padding
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

PADDING = -1
IMAGES_COUNTED_AT_A_TIME = 1000


@dataclass(frozen=True)
class ImageShape:
    """What an image target has to know of its data. Height and width are in pixels."""

    channels: int
    height: int
    width: int
    num_classes: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width


@dataclass(frozen=True)
class TextShape:
    """What a text target has to know of its data."""

    embedding_dim: int
    num_classes: int


DataShape = ImageShape | TextShape


@dataclass(frozen=True)
class Normalisation:
    """Scales images by the mean and the standard deviation of the training pixels, which are in 0 … 1."""

    mean: Float[Tensor, "channels 1 1"]
    std: Float[Tensor, "channels 1 1"]

    @staticmethod
    def of(images: UInt8[NDArray[np.uint8], "images channels height width"]) -> Normalisation:
        """From the training images, by how often a channel has each of its 256 values.

        Floats of all pixels would take four times the memory of the images.
        """
        values = np.arange(256) / 255
        means, deviations = [], []
        for channel in range(images.shape[1]):
            counts = np.zeros(256, dtype=np.int64)
            for first in range(0, len(images), IMAGES_COUNTED_AT_A_TIME):
                part = images[first : first + IMAGES_COUNTED_AT_A_TIME, channel]
                counts += np.bincount(part.ravel(), minlength=256)
            means.append(counts @ values / counts.sum())
            deviations.append(np.sqrt(counts @ (values - means[-1]) ** 2 / counts.sum()))
        mean, std = (torch.tensor(numbers, dtype=torch.float32).reshape(-1, 1, 1) for numbers in (means, deviations))
        return Normalisation(mean, std.clamp(min=1e-3))

    def __call__(
        self, images: UInt8[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Pixels with mean 0 and standard deviation 1 per channel over the training data."""
        return (images.float() / 255 - self.mean) / self.std

    def to(self, device: torch.device) -> Normalisation:
        """The same on this device."""
        return Normalisation(self.mean.to(device), self.std.to(device))


@dataclass(frozen=True)
class TokenEmbedding:
    """The frozen embedding that all text targets share (paper 4.1).

    No row of the table is zero, so that zeros mark padding.
    """

    table: Float[Tensor, "vocabulary embedding"]

    def __call__(self, ids: Int64[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens embedding"]:
        """A row of the table for every token id, zeros for PADDING."""
        return functional.embedding(ids.clamp(min=0), self.table).mul_((ids != PADDING).unsqueeze(-1))

    def to(self, device: torch.device) -> TokenEmbedding:
        """The same on this device."""
        return TokenEmbedding(self.table.to(device))


@dataclass(frozen=True)
class Texts:
    """Tokenised texts, stored without padding: text i is ids[starts[i] : starts[i + 1]]."""

    ids: Int32[Tensor, " tokens"]
    starts: Int64[Tensor, " texts_plus_1"]
    padded_to: int | None = None  # tokens of every text that is asked for; None: as many as the longest of them has

    @staticmethod
    def of(texts: list[list[int]]) -> Texts:
        """From the token ids of every text."""
        lengths = torch.tensor([len(text) for text in texts])
        ids = torch.tensor([token for text in texts for token in text], dtype=torch.int32)
        return Texts(ids, torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: Tensor | slice) -> Int64[Tensor, "batch longest"]:
        """The texts at `index`, padded with PADDING to the longest of them, or as `padded_to` says."""
        starts, ends = self.starts[:-1][index], self.starts[1:][index]
        num_tokens = self.padded_to
        if num_tokens is None:
            num_tokens = int((ends - starts).max()) if len(starts) else 0
        positions = starts.unsqueeze(1) + torch.arange(num_tokens, device=starts.device)
        ids = self.ids[positions.clamp(max=len(self.ids) - 1)].long()
        return ids.where(positions < ends.unsqueeze(1), PADDING)

    def subset(self, index: Int64[Tensor, " subset"]) -> Texts:
        """Those at `index` alone, on the same device."""
        lengths = self.lengths[index]
        starts = functional.pad(lengths.cumsum(0), (1, 0))
        moved = self.starts[:-1][index] - starts[:-1]  # from where a token is now to where it was
        positions = torch.arange(int(starts[-1]), device=starts.device)
        return Texts(self.ids[positions + moved.repeat_interleave(lengths, output_size=len(positions))], starts)

    @property
    def lengths(self) -> Int64[Tensor, " texts"]:
        """The number of tokens of every text."""
        return self.starts.diff()

    def to(self, device: torch.device) -> Texts:
        """The same on this device."""
        return Texts(self.ids.to(device), self.starts.to(device), self.padded_to)

    def all_padded(self) -> Texts:
        """The same, where every batch is as long as the longest of all texts. So its shape is known beforehand."""
        return Texts(self.ids, self.starts, int(self.lengths.max()))
