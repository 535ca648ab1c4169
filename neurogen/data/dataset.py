"""The contract of a dataset: labelled samples in three splits.

in:  raw splits (raw.py)
out: a Dataset: train, validation and test, what prepares their samples, and a fingerprint of all of it

By the fingerprint a later step notices other data than an earlier one was trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from neurogen.config import DatasetConfig
from neurogen.data.preparation import (
    DataShape,
    ImageShape,
    Normalisation,
    Texts,
    TextShape,
    TokenEmbedding,
)
from neurogen.data.raw import load_raw
from neurogen.errors import UserError, one_of


@dataclass(frozen=True)
class Split:
    """Samples in their compact raw form; `inputs` prepares those that are asked for."""

    samples: UInt8[Tensor, "samples channels height width"] | Texts
    labels: Int64[Tensor, " samples"]
    preparation: Normalisation | TokenEmbedding

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, index: Tensor | slice = slice(None)) -> Float[Tensor, "batch ..."]:
        """The samples at `index` as a target network reads them: images, or embedded texts."""
        return self.preparation(self.samples[index])

    def batch(self, index: Int64[Tensor, " batch"]) -> tuple[Float[Tensor, "batch ..."], Int64[Tensor, " batch"]]:
        """(inputs, labels) of the samples at `index`, on the device of the split."""
        index = index.to(self.labels.device)
        return self.inputs(index), self.labels[index]

    def to(self, device: torch.device) -> Split:
        """The same on this device. What is there already is not copied."""
        return Split(self.samples.to(device), self.labels.to(device), self.preparation.to(device))

    def subset(self, index: Int64[Tensor, " subset"]) -> Split:
        """A split of the samples at `index` only."""
        samples = self.samples.subset(index) if isinstance(self.samples, Texts) else self.samples[index]
        return Split(samples, self.labels[index], self.preparation)

    def sample(self, count: int, rng: torch.Generator) -> Int64[Tensor, " count"]:
        """Indices of `count` different samples in random order; all indices if there are fewer samples."""
        return torch.randperm(len(self), generator=rng)[:count]


@dataclass(frozen=True)
class Dataset:
    """Three splits that share their classes and their preparation. `Dataset.of` computes the fingerprint."""

    name: str
    title: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    fingerprint: str  # sha256 over all splits
    notes: tuple[str, ...] = ()  # what the loader left out or changed
    source_labels: tuple[str, ...] | None = None  # as in RawSplits

    @staticmethod
    def of(
        config: DatasetConfig,
        class_names: tuple[str, ...],
        train: Split,
        validation: Split,
        test: Split,
        *,
        notes: tuple[str, ...] = (),
        source_labels: tuple[str, ...] | None = None,
    ) -> Dataset:
        """A dataset of divided and prepared splits, with the fingerprint of all their tensors."""
        tensors: list[Tensor] = []
        for split in (train, validation, test):
            samples = split.samples
            tensors += [samples.ids, samples.starts] if isinstance(samples, Texts) else [samples]
            tensors.append(split.labels)
        if isinstance(train.preparation, TokenEmbedding):
            tensors.append(train.preparation.table)
        digest = hashlib.sha256(repr(class_names).encode())
        for tensor in tensors:
            digest.update(tensor.contiguous().numpy().data)
        splits, fingerprint = (train, validation, test), digest.hexdigest()
        return Dataset(config.name, config.title, class_names, *splits, fingerprint, notes, source_labels)

    def without(self, classes: Sequence[str]) -> Dataset:
        """The same data without training and validation samples of these classes. Labels keep their numbers.

        Raises UserError for an unknown class, and where no class is left.
        """
        for name in classes:
            one_of("dataset.unseen", name, self.class_names)
        is_kept = torch.tensor([name not in classes for name in self.class_names])
        if not is_kept.any():
            raise UserError("dataset.unseen names all classes; leave some to learn from")
        if is_kept.all():
            return self
        train, validation = (
            split.subset(is_kept[split.labels].nonzero()[:, 0]) for split in (self.train, self.validation)
        )
        return replace(self, train=train, validation=validation)

    def to(self, device: torch.device) -> Dataset:
        """The same data on this device, with one preparation for all splits. What is there already is not copied."""
        preparation = self.preparation.to(device)
        train, validation, test = (
            replace(split, preparation=preparation).to(device) for split in (self.train, self.validation, self.test)
        )
        return replace(self, train=train, validation=validation, test=test)

    @property
    def preparation(self) -> Normalisation | TokenEmbedding:
        """What prepares the samples of all three splits."""
        return self.train.preparation

    @property
    def shape(self) -> DataShape:
        """What a target network has to know of the data."""
        if isinstance(self.train.samples, Texts):
            assert isinstance(self.preparation, TokenEmbedding)
            return TextShape(self.preparation.table.shape[1], len(self.class_names))
        _, channels, height, width = self.train.samples.shape
        return ImageShape(channels, height, width, len(self.class_names))


def load_images(config: DatasetConfig) -> Dataset:
    """Images, divided and normalised by the training pixels' mean and standard deviation per channel.

    Raises UserError as `load_raw` does.
    """
    raw = load_raw(config)
    normalisation = Normalisation.of(raw.train.samples)
    assert raw.validation is not None
    splits = (
        Split(torch.from_numpy(np.ascontiguousarray(part.samples)), torch.from_numpy(part.labels), normalisation)
        for part in (raw.train, raw.validation, raw.test)
    )
    return Dataset.of(config, raw.class_names, *splits, notes=raw.notes)


def require_same(dataset: Dataset, fingerprint: str, folder: Path) -> None:
    """Raises UserError unless the data is what the step in `folder`, or a step before it, was trained on."""
    if dataset.fingerprint != fingerprint:
        raise UserError(
            f"the data of {dataset.name} is not what it was when {folder} was trained; restore the data, "
            "or train everything on what it is now, in another root=FOLDER"
        )


def require_alike(dataset: Dataset, other: Dataset) -> Dataset:
    """The other one. Raises UserError where networks for the first cannot read its samples."""
    shapes = [list(data.train.samples.shape[1:]) for data in (dataset, other) if isinstance(data.train.samples, Tensor)]
    if len(shapes) < 2 or shapes[0] != shapes[1]:
        raise UserError(
            f"{other.name} cannot be shown to networks for {dataset.name}: images are "
            f"{' and '.join(map(str, shapes)) or 'missing'} (channels, height, width); set dataset.resize, or take "
            "other data"
        )
    return other
