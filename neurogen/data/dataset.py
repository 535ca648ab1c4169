"""The contract of a dataset: labelled samples in three splits.

in:  a loader's RawSplits (images as bytes, or texts)
out: a Dataset: train, validation and test, what prepares their samples, and a fingerprint of all of it

Data that nothing can be learned from is refused. Without a validation split, a seeded and class-balanced part of train
becomes one. By the fingerprint a later step notices other data than an earlier one was trained on.
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

from neurogen.config import DatasetConfig, Duplicates
from neurogen.data.duplicates import Groups, groups_of, overlap, refuse_identical, stratified
from neurogen.data.preparation import (
    DataShape,
    ImageShape,
    Normalisation,
    Texts,
    TextShape,
    TokenEmbedding,
)
from neurogen.errors import UserError, one_of
from neurogen.experiment import named_function

TEST_FRACTION = 0.2  # of each class, where the source has no test split
TEST_SEED = 0  # fixed, so that dataset.split_seed never moves a sample between train and test


@dataclass(frozen=True)
class Labelled:
    """Raw samples and their labels.

    `samples` are pixels 0 … 255 in [samples, channels, height, width], or texts (an object array of strings).
    `labels` are 0 … classes − 1.
    """

    samples: NDArray[Any]
    labels: NDArray[np.int64]

    @staticmethod
    def of(samples: Any, labels: Any) -> Labelled:
        """From an array of pixels or a list of texts, and anything that numpy reads as whole numbers."""
        kind = None if isinstance(samples, np.ndarray) else object  # numpy would pad every text to the longest one
        return Labelled(np.asarray(samples, dtype=kind), np.asarray(labels, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: NDArray[np.int64]) -> Labelled:
        return Labelled(self.samples[index], self.labels[index])


@dataclass(frozen=True)
class RawSplits:
    """What a loader returns. Where `validation` is None, a part of train becomes the validation split."""

    train: Labelled
    test: Labelled
    class_names: tuple[str, ...]
    validation: Labelled | None = None
    source_labels: tuple[str, ...] | None = None  # how the source writes each class; None: by its name
    notes: tuple[str, ...] = ()  # what was left out or changed, and why


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


def load_raw(config: DatasetConfig) -> RawSplits:
    """Run the loader, take leaks out, keep `dataset.limit` training samples, cut a validation split if there is none.

    Raises UserError for an unknown loader, missing files, unusable samples, and too few samples or classes.
    """
    load = named_function("dataset.load", config.load)
    try:
        raw: RawSplits = load(config)
    except ModuleNotFoundError as error:
        raise UserError(
            f"dataset {config.name} needs {error.name}; pip install 'neurogen[demo]' or that package"
        ) from error
    _refuse_unusable(config, raw)
    raw, groups = _without_leaks(config, raw)
    rng = np.random.default_rng(config.split_seed)
    kept = rng.permutation(len(raw.train))[: config.limit]
    if raw.validation is None:
        validation, train = stratified(raw.train.labels[kept], groups[kept], config.validation_fraction, rng)
        raw = replace(raw, train=raw.train[kept[train]], validation=raw.train[kept[validation]])
    else:
        raw = replace(raw, train=raw.train[np.sort(kept)])
    missing = set(range(len(raw.class_names))) - set(raw.train.labels.tolist())
    if missing or not raw.validation:
        names = ", ".join(raw.class_names[label] for label in sorted(missing)) or "none"
        raise UserError(
            f"dataset {config.name}: {len(kept)} training samples (dataset.limit={config.limit}) leave no sample for "
            f"validation or for the classes: {names}; use more samples"
        )
    return raw


def require_same(dataset: Dataset, fingerprint: str, folder: Path) -> None:
    """Raises UserError unless the data is what the step in `folder`, or a step before it, was trained on."""
    if dataset.fingerprint != fingerprint:
        raise UserError(
            f"the data of {dataset.name} is not what it was when {folder} was trained; restore the data, "
            "or set another root=FOLDER to train everything on what it is now"
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


def split_off_test(samples: Labelled, class_names: tuple[str, ...]) -> RawSplits:
    """A fixed fifth of each class becomes test data, no copy of the rest. Raises UserError where all are copies."""
    (groups,) = groups_of(samples.samples)
    refuse_identical(samples.labels, groups, class_names)
    test, train = stratified(samples.labels, groups, TEST_FRACTION, np.random.default_rng(TEST_SEED))
    return RawSplits(samples[train], samples[test], class_names)


def _without_leaks(config: DatasetConfig, raw: RawSplits) -> tuple[RawSplits, Groups]:
    """(the splits without samples that a later split has too, unless dataset.duplicates=keep; the groups of train).

    Raises UserError where that leaves too little of a class.
    """
    splits = {"train": raw.train, "test": raw.test} | ({"validation": raw.validation} if raw.validation else {})
    pairs = {name: (split.samples, split.labels) for name, split in splits.items()}
    shared = overlap(pairs, drop=config.duplicates == Duplicates.drop)
    kept = {name: split[shared.indices[name]] for name, split in splits.items()}
    counts = np.bincount(kept["train"].labels, minlength=len(raw.class_names))
    if counts.min() < 2:
        raise UserError(
            f"dataset {config.name}: {'; '.join(shared.notes)}; that leaves {counts.min()} training samples of class "
            f"{raw.class_names[int(counts.argmin())]}; give other test data, or set dataset.duplicates=keep"
        )
    validation = kept.get("validation") or None  # with nothing left, a part of train becomes validation
    notes = (*raw.notes, *shared.notes)
    return replace(raw, train=kept["train"], validation=validation, notes=notes), shared.groups["train"]


def _refuse_samples(config: DatasetConfig, split: Labelled) -> None:
    """Raises UserError for what a user's own loader may get wrong."""
    if len(split.samples) != len(split.labels):
        raise UserError(f"{config.load} gives {len(split.samples):,} samples and {len(split.labels):,} labels")
    is_text = split.samples.dtype == object and all(isinstance(sample, str) for sample in split.samples)
    is_image = split.samples.dtype == np.uint8 and split.samples.ndim == 4
    if config.text is None and not is_image:
        raise UserError(
            f"{config.load} gives no images: bytes (uint8) in [samples, channels, height, width]; for texts begin the "
            "dataset's YAML file with `defaults: [/text_dataset@_here_]`"
        )
    if config.text is not None and not is_text:
        raise UserError(f"{config.load} gives no texts: a list of strings; for images leave dataset.text out")


def _refuse_unusable(config: DatasetConfig, raw: RawSplits) -> None:
    """Raises UserError for samples, labels and classes that nothing can be learned from."""
    num_classes = len(raw.class_names)
    splits = [split for split in (raw.train, raw.validation, raw.test) if split is not None]
    for split in splits:
        _refuse_samples(config, split)
    present = set(np.concatenate([split.labels for split in splits]).tolist())
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
    for kind, split, needed in (("training", raw.train, 2), ("test", raw.test, 1)):
        counts = np.bincount(split.labels, minlength=num_classes)
        if counts.min() < needed:
            name, notes = raw.class_names[int(counts.argmin())], "".join(f"; {note}" for note in raw.notes)
            raise UserError(
                f"dataset {config.name}: {counts.min()} {kind} samples of class {name}; every class needs two for "
                f"training and one for test (three where a fifth of them becomes the test split){notes}"
            )
