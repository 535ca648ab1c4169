"""The contract of a dataset: labelled samples in three splits.

A loader gives raw samples: images as bytes, or texts. This module refuses what cannot be learned from, cuts a seeded,
class-balanced validation split off train where there is none, and fingerprints everything, so that a later step
notices when the data is no longer what an earlier one was trained on. Texts are tokenised once, by the step in
embed.py, which leaves its splits in a folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from neurogen.config import DatasetConfig
from neurogen.data.preparation import (
    PADDING,
    DataShape,
    ImageShape,
    Normalisation,
    Texts,
    TextShape,
    TokenEmbedding,
)
from neurogen.errors import UserError, one_of
from neurogen.experiment import named_function

TEST_FRACTION = 0.2  # where a source has no test split of its own
TEST_SEED = 0  # fixed, so that dataset.split_seed never moves a sample between train and test


@dataclass(frozen=True)
class Labelled:
    """Raw samples, pixels 0 … 255 in [samples, channels, height, width] or texts, and labels 0 … classes − 1."""

    samples: NDArray[Any]
    labels: NDArray[np.int64]

    @staticmethod
    def of(samples: Any, labels: Any) -> Labelled:
        kind = None if isinstance(samples, np.ndarray) else object  # numpy would make texts as long as the longest
        return Labelled(np.asarray(samples, dtype=kind), np.asarray(labels, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: NDArray[np.int64]) -> Labelled:
        return Labelled(self.samples[index], self.labels[index])


@dataclass(frozen=True)
class RawSplits:
    """What a loader returns; without `validation` it is cut off train."""

    train: Labelled
    test: Labelled
    class_names: tuple[str, ...]
    validation: Labelled | None = None


@dataclass(frozen=True)
class Split:
    """Samples as small as they come; `inputs` prepares the few that are asked for."""

    samples: UInt8[Tensor, "samples channels height width"] | Texts
    labels: Int64[Tensor, " samples"]
    preparation: Normalisation | TokenEmbedding

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, index: Tensor | slice = slice(None)) -> Float[Tensor, "batch ..."]:
        """The samples at `index` as a target network reads them."""
        return self.preparation(self.samples[index])

    def part(self, index: Int64[Tensor, " part"]) -> Split:
        """Only the samples at `index`."""
        if not isinstance(self.samples, Texts):
            return Split(self.samples[index], self.labels[index], self.preparation)
        texts = [ids[ids != PADDING].tolist() for ids in self.samples[index]]
        return Split(Texts.of(texts), self.labels[index], self.preparation)

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

    def without(self, classes: Sequence[str]) -> Dataset:
        """No training or validation samples of these classes, whose numbers stay. Raises UserError for other names."""
        for name in classes:
            one_of("dataset.unseen", name, self.class_names)
        left = torch.tensor([name not in classes for name in self.class_names])
        if not left.any():
            raise UserError("dataset.unseen names all classes; leave some to learn from")
        if left.all():
            return self
        train, validation = (split.part(left[split.labels].nonzero()[:, 0]) for split in (self.train, self.validation))
        return replace(self, train=train, validation=validation)

    @property
    def preparation(self) -> Normalisation | TokenEmbedding:
        return self.train.preparation

    @property
    def shape(self) -> DataShape:
        if isinstance(self.train.samples, Texts):
            assert isinstance(self.preparation, TokenEmbedding)
            return TextShape(self.preparation.table.shape[1], len(self.class_names))
        _, channels, height, width = self.train.samples.shape
        return ImageShape(channels, height, width, len(self.class_names))


def load_images(config: DatasetConfig) -> Dataset:
    """Images, divided and normalised. Raises UserError as `load_raw` does."""
    raw = load_raw(config)
    channels = raw.train.samples.shape[1]
    pixels = raw.train.samples.transpose(1, 0, 2, 3).reshape(channels, -1) / np.float32(255)
    mean = torch.from_numpy(pixels.mean(1)).float().reshape(channels, 1, 1)
    std = torch.from_numpy(pixels.std(1)).float().reshape(channels, 1, 1).clamp(min=1e-3)
    assert raw.validation is not None
    splits = (
        Split(
            torch.from_numpy(np.ascontiguousarray(part.samples)),
            torch.from_numpy(part.labels),
            Normalisation(mean, std),
        )
        for part in (raw.train, raw.validation, raw.test)
    )
    return dataset_of(config, raw.class_names, *splits)


def dataset_of(
    config: DatasetConfig, class_names: tuple[str, ...], train: Split, validation: Split, test: Split
) -> Dataset:
    """A dataset of divided and prepared splits, with its fingerprint."""
    tensors: list[Tensor] = []
    for split in (train, validation, test):
        tensors += [split.samples.ids, split.samples.starts] if isinstance(split.samples, Texts) else [split.samples]
        tensors.append(split.labels)
    if isinstance(train.preparation, TokenEmbedding):
        tensors.append(train.preparation.table)
    digest = hashlib.sha256(repr(class_names).encode())
    for tensor in tensors:
        digest.update(tensor.numpy().tobytes())
    return Dataset(config.name, config.title, class_names, train, validation, test, digest.hexdigest())


def load_raw(config: DatasetConfig) -> RawSplits:
    """Load, limit, divide; the result has a validation split.

    Raises UserError for an unknown loader, missing files, unusable samples, too few samples or classes.
    """
    load = named_function("dataset.load", config.load)
    try:
        raw: RawSplits = load(config)
    except ModuleNotFoundError as error:
        raise UserError(
            f"dataset {config.name} needs {error.name}; pip install 'neurogen[demo]' or that package"
        ) from error
    _refuse_unusable(config, raw)
    generator = np.random.default_rng(config.split_seed)
    chosen = generator.permutation(len(raw.train))[: config.limit]
    if raw.validation is None:
        validation, train = stratified(raw.train.labels[chosen], config.validation_fraction, generator)
        raw = RawSplits(raw.train[chosen[train]], raw.test, raw.class_names, raw.train[chosen[validation]])
    else:
        raw = RawSplits(raw.train[np.sort(chosen)], raw.test, raw.class_names, raw.validation)
    missing = set(range(len(raw.class_names))) - set(raw.train.labels.tolist())
    if missing or not raw.validation:
        names = ", ".join(raw.class_names[label] for label in sorted(missing)) or "none"
        raise UserError(
            f"dataset {config.name}: {len(chosen)} training samples (dataset.limit={config.limit}) leave no sample for "
            f"validation or for the classes: {names}; use more samples"
        )
    return raw


def require_same(dataset: Dataset, fingerprint: str, folder: Path) -> None:
    """Raises UserError when the data is no longer what the step in `folder`, or what it builds on, was trained on."""
    if dataset.fingerprint != fingerprint:
        raise UserError(
            f"the data of {dataset.name} is not what it was when {folder} was trained; restore the data, "
            "or set another root=FOLDER to train everything on what it is now"
        )


def with_own_test(samples: Labelled, names: tuple[str, ...]) -> RawSplits:
    """Splits of a source that has no test split: a fixed fifth of each class is test."""
    test, train = stratified(samples.labels, TEST_FRACTION, np.random.default_rng(TEST_SEED))
    return RawSplits(samples[train], samples[test], names)


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


def _refuse_samples(config: DatasetConfig, part: Labelled) -> None:
    """What a loader of the user's own may get wrong."""
    if len(part.samples) != len(part.labels):
        raise UserError(f"{config.load} gives {len(part.samples):,} samples and {len(part.labels):,} labels")
    is_text = part.samples.dtype == object and all(isinstance(sample, str) for sample in part.samples)
    is_image = part.samples.dtype == np.uint8 and part.samples.ndim == 4
    if config.text is None and not is_image:
        raise UserError(
            f"{config.load} gives no images: bytes (uint8) in [samples, channels, height, width]; for texts begin the "
            "dataset's YAML file with `defaults: [/text_dataset@_here_]`"
        )
    if config.text is not None and not is_text:
        raise UserError(f"{config.load} gives no texts: a list of strings; for images leave dataset.text out")


def _refuse_unusable(config: DatasetConfig, raw: RawSplits) -> None:
    num_classes = len(raw.class_names)
    parts = [part for part in (raw.train, raw.validation, raw.test) if part is not None]
    for part in parts:
        _refuse_samples(config, part)
    present = set(np.concatenate([part.labels for part in parts]).tolist())
    unknown = present - set(range(num_classes))
    if unknown:
        raise UserError(
            f"dataset {config.name} has the labels {sorted(unknown)[:3]} beside its {num_classes} classes "
            f"({', '.join(raw.class_names)}), which are 0 … {num_classes - 1}"
        )
    if num_classes < 2:
        raise UserError(f"dataset {config.name} has one class only ({', '.join(raw.class_names)}); give at least two")
    if config.limit is not None and config.limit < 2 * num_classes:
        raise UserError(
            f"dataset.limit={config.limit} is too few for {num_classes} classes; give at least {2 * num_classes}"
        )
    for what, part in (("training", raw.train), ("test", raw.test)):
        counts = np.bincount(part.labels, minlength=num_classes)
        if counts.min() < (2 if what == "training" else 1):
            name = raw.class_names[int(counts.argmin())]
            raise UserError(
                f"dataset {config.name}: {counts.min()} {what} samples of class {name}; every class needs two for "
                "training and one for test (three where a fifth of them becomes the test split)"
            )
