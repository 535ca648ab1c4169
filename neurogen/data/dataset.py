"""The contract of a dataset: labelled samples in three splits.

A loader gives train and test; this module cuts a seeded, class-balanced validation split off train, measures mean
and standard deviation per channel on what is left, and fingerprints everything, so that a later step notices when
the data is no longer what an earlier one was trained on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from neurogen.config import DatasetConfig, named_function
from neurogen.errors import UserError


@dataclass(frozen=True)
class DataShape:
    """What a target network has to know of its data."""

    channels: int
    height: int
    width: int
    num_classes: int

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width


@dataclass(frozen=True)
class RawSplits:
    """What a loader returns: pixels 0 … 255 in [samples, channels, height, width], labels 0 … classes − 1."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """Samples kept as bytes; `inputs` normalises the few that are asked for."""

    images: UInt8[Tensor, "samples channels height width"]
    labels: Int64[Tensor, " samples"]
    mean: Float[Tensor, "channels 1 1"]
    std: Float[Tensor, "channels 1 1"]

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, index: Tensor | slice = slice(None)) -> Float[Tensor, "batch channels height width"]:
        """Normalised pixels of the samples at `index`."""
        return (self.images[index].float() / 255 - self.mean) / self.std

    def sample(self, count: int, generator: torch.Generator) -> Int64[Tensor, " count"]:
        """Indices of `count` different samples (all of them if there are fewer)."""
        return torch.randperm(len(self), generator=generator)[:count]


@dataclass(frozen=True)
class Dataset:
    name: str
    title: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    fingerprint: str  # sha256 over all splits

    @property
    def shape(self) -> DataShape:
        _, channels, height, width = self.train.images.shape
        return DataShape(channels, height, width, len(self.class_names))


def load_dataset(config: DatasetConfig) -> Dataset:
    """Load, limit, split. Raises UserError for an unknown loader, missing files, too few samples or classes."""
    load = named_function("dataset.load", config.load)
    try:
        raw: RawSplits = load(config)
    except ModuleNotFoundError as error:
        raise UserError(
            f"dataset {config.name} needs {error.name}; pip install 'neurogen[demo]' or that package"
        ) from error
    _refuse_unusable(config, raw)
    generator = np.random.default_rng(config.split_seed)
    chosen = generator.permutation(len(raw.train_labels))[: config.limit]
    validation, train = stratified(raw.train_labels[chosen], config.validation_fraction, generator)
    validation, train = chosen[validation], chosen[train]
    missing = set(range(len(raw.class_names))) - set(raw.train_labels[train].tolist())
    if missing or not len(validation):
        names = ", ".join(raw.class_names[label] for label in sorted(missing)) or "none"
        raise UserError(
            f"dataset {config.name}: {len(chosen)} training samples (dataset.limit={config.limit}) leave no sample for "
            f"validation or for the classes: {names}; use more samples"
        )
    channels = raw.train_images.shape[1]
    pixels = raw.train_images[train].transpose(1, 0, 2, 3).reshape(channels, -1) / np.float32(255)
    mean = torch.from_numpy(pixels.mean(1)).float().reshape(channels, 1, 1)
    std = torch.from_numpy(pixels.std(1)).float().reshape(channels, 1, 1).clamp(min=1e-3)

    def split(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Split:
        return Split(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels), mean, std)

    parts = (
        split(raw.train_images[train], raw.train_labels[train]),
        split(raw.train_images[validation], raw.train_labels[validation]),
        split(raw.test_images, raw.test_labels),
    )
    digest = hashlib.sha256(repr(raw.class_names).encode())
    for part in parts:
        digest.update(part.images.numpy().tobytes() + part.labels.numpy().tobytes())
    return Dataset(config.name, config.title, raw.class_names, *parts, digest.hexdigest())


def require_same(dataset: Dataset, fingerprint: str, folder: Path) -> None:
    """Raises UserError when the data is no longer what the step in `folder`, or what it builds on, was trained on."""
    if dataset.fingerprint != fingerprint:
        raise UserError(
            f"the data of {dataset.name} is not what it was when {folder} was trained; restore the data, "
            "or set another root=FOLDER to train everything on what it is now"
        )


def stratified(
    labels: NDArray[np.int64], fraction: float, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of (a fraction of every class, the rest), both in ascending order."""
    part = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        part.append(members[: round(len(members) * fraction)])
    chosen = np.sort(np.concatenate(part))
    return chosen, np.setdiff1d(np.arange(len(labels)), chosen)


def _refuse_unusable(config: DatasetConfig, raw: RawSplits) -> None:
    num_classes = len(raw.class_names)
    if num_classes < 2:
        raise UserError(f"dataset {config.name} has one class only ({', '.join(raw.class_names)}); give at least two")
    if config.limit is not None and config.limit < 2 * num_classes:
        raise UserError(
            f"dataset.limit={config.limit} is too few for {num_classes} classes; give at least {2 * num_classes}"
        )
    for what, labels in (("training", raw.train_labels), ("test", raw.test_labels)):
        counts = np.bincount(labels, minlength=num_classes)
        if counts.min() < (2 if what == "training" else 1):
            name = raw.class_names[int(counts.argmin())]
            raise UserError(
                f"dataset {config.name}: {counts.min()} {what} samples of class {name}; every class needs two for "
                "training and one for test (three where a fifth of them becomes the test split)"
            )
