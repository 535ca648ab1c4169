"""A dataset of the user's own, from what is in memory: arrays, lists of texts, or datasets of torch and Hugging Face.

    data = neurogen.Data.from_arrays(train=(x, y), test=(x_test, y_test), class_names=names, title="weather radar")
    run = neurogen.fit(data)

`fit` stores it under the root, in a file that is named by its content (neurogen/data/arrays.py). A job on a cluster
reads it there:

    data.save("runs")        # runs/data/DIGEST.safetensors
    neurogen run dataset=arrays dataset.path=runs/data/DIGEST.safetensors dataset.name=weather_radar …
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neurogen.config import DatasetConfig
from neurogen.data.arrays import as_bytes, as_list, store_splits
from neurogen.data.labels import indices_in_memory
from neurogen.data.raw import Labelled
from neurogen.data.texts import has_half_a_sign
from neurogen.errors import UserError

Pair = tuple[Any, Any]  # samples, labels

STORED = "arrays"  # dataset.load of what `fit` has stored


@dataclass(frozen=True)
class Data:
    """Labelled images or texts in splits. Without `test`, a fixed fifth of each class is test data."""

    title: str  # what the instruction calls it
    name: str  # what folders and tables call it
    class_names: tuple[str, ...]
    splits: Mapping[str, Labelled]  # train, and where they were given validation and test

    @staticmethod
    def from_arrays(
        train: Pair,
        test: Pair | None = None,
        validation: Pair | None = None,
        *,
        class_names: Sequence[str] | None = None,
        title: str | None = None,
        name: str | None = None,
    ) -> Data:
        """Data of (samples, labels) for each split.

        samples      images [samples, channels, height, width] or [samples, height, width], as bytes (uint8) or as
                     floats from 0 to 1, which are rounded to bytes; or a list of texts
        labels       whole numbers 0 … classes − 1, or words
        class_names  in the order of the numbers; left out: the labels themselves, in ascending order
        title        what the instruction calls the data; left out: image or text
        name         what folders and tables call it: letters, digits, _ and -; left out: made of the title

        Raises UserError for other samples, labels that fit no class, and different numbers of samples and labels.
        """
        pairs = {"train": train, "validation": validation, "test": test}
        given = {split: _samples(pair, split) for split, pair in pairs.items() if pair is not None}
        numbers, names = indices_in_memory([labels for _, labels in given.values()], class_names, "labels")
        splits = {
            split: Labelled.of(samples, part)
            for (split, (samples, _)), part in zip(given.items(), numbers, strict=True)
        }
        _refuse(splits, names)
        title = title or ("text" if splits["train"].samples.dtype == object else "image")
        return Data(title, name or re.sub(r"\W+", "_", title).strip("_").lower(), names, splits)

    @staticmethod
    def from_torch(
        train: Any,
        test: Any = None,
        validation: Any = None,
        *,
        class_names: Sequence[str] | None = None,
        title: str | None = None,
        name: str | None = None,
    ) -> Data:
        """Data of torch datasets (torch.utils.data.Dataset) whose items are (sample, label), as in torchvision.

        A sample is a picture of Pillow, a tensor [channels, height, width], or a text. Where `class_names` is left
        out, the attribute `classes` of `train` counts. The rest is as in `from_arrays`, errors included.
        """
        names = class_names if class_names is not None else getattr(train, "classes", None)
        others = [None if part is None else _items(part) for part in (test, validation)]
        return Data.from_arrays(_items(train), *others, class_names=names, title=title, name=name)

    @staticmethod
    def from_datasets(
        dataset: Any,
        *,
        samples: str | None = None,
        label: str = "label",
        class_names: Sequence[str] | None = None,
        title: str | None = None,
        name: str | None = None,
    ) -> Data:
        """Data of a `datasets.Dataset`, or of a `datasets.DatasetDict` with train and maybe validation and test.

        `samples` names the column of pictures or texts (left out: image, img or text, whichever there is), `label`
        that of the classes. Where `class_names` is left out, the names that the label column knows count. The rest is
        as in `from_arrays`, errors included.
        """
        splits = dataset if isinstance(dataset, Mapping) else {"train": dataset}
        if "train" not in splits:
            raise UserError(f"the dataset has the splits {', '.join(splits)}; it needs one that is called train")
        columns = splits["train"].column_names
        column = samples or next((known for known in ("image", "img", "text") if known in columns), "text")
        if not {column, label} <= set(columns):
            raise UserError(
                f"the dataset has the columns {', '.join(columns)}; give samples=COLUMN of the pictures or texts, and "
                "label=COLUMN of their classes"
            )
        names = class_names if class_names is not None else getattr(splits["train"].features[label], "names", None)
        pairs = {split: (list(splits[split][column]), list(splits[split][label])) for split in SPLITS & set(splits)}
        return Data.from_arrays(**pairs, class_names=names, title=title, name=name)

    @property
    def modality(self) -> str:
        """`image` or `text`."""
        return "text" if self.splits["train"].samples.dtype == object else "image"

    @property
    def size(self) -> str:
        """What dataset.size says of it: the zoo is trained for fewer epochs where there are many samples."""
        samples = self.splits["train"].samples
        is_cut_for_test = "test" not in self.splits  # a fifth of each class; no part of what is trained on
        num_train = round(len(samples) * (0.8 if is_cut_for_test else 1))
        image = "null" if samples.dtype == object else list(samples.shape[1:])
        return (
            f"{{num_train:{num_train},validation_is_cut:{str('validation' not in self.splits).lower()},"
            f"num_classes:{len(self.class_names)},image:{image}}}"
        )

    def save(self, root: str | Path) -> Path:
        """Store the data under the root of a run; returns the file. What is there already is not written again.

        Raises UserError where the file cannot be written.
        """
        return store_splits(self.splits, self.class_names, Path(root) / "data")

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(part):,} {split}" for split, part in self.splits.items())
        return f"Data({self.title}: {sizes} {self.modality}s of {len(self.class_names)} classes)"


SPLITS = {"train", "validation", "test"}


def _samples(pair: Pair, split: str) -> tuple[Any, list[Any]]:
    """(bytes of images or a list of texts, a list of labels) of one split."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise UserError(f"{split} is a {type(pair).__name__}; give (samples, labels)")
    samples, labels = pair
    labels = as_list(labels)
    samples = texts_of(samples)
    is_text = isinstance(samples, (list, tuple)) and any(isinstance(sample, str) for sample in samples)
    samples = list(samples) if is_text else as_bytes(samples, f"the images of {split}")
    if len(samples) != len(labels):
        raise UserError(f"{split} has {len(samples):,} samples and {len(labels):,} labels; give as many of both")
    return samples, labels


def relocated(config: DatasetConfig, folder: Path) -> DatasetConfig:
    """The config with what `fit` stored where it lies now, beside the step in `folder`.

    Its path may be relative, or that of a root which has been moved.
    """
    path = Path(config.path or "")
    beside = folder.parent.parent / "data" / path.name
    is_moved = config.load == STORED and not path.exists() and beside.exists()
    return replace(config, path=str(beside)) if is_moved else config


def texts_of(samples: Any) -> Any:
    """A list, of an array or a pandas.Series that may hold texts; all else as it is."""
    kind = getattr(getattr(samples, "dtype", None), "kind", "")
    return samples.tolist() if kind in ("U", "O", "T") else samples


def _refuse(splits: Mapping[str, Labelled], class_names: Sequence[str]) -> None:
    """Raises UserError for what can be seen before anything is stored."""
    for split, part in splits.items():
        shape, expected = part.samples.shape[1:], splits["train"].samples.shape[1:]
        if part.samples.dtype != splits["train"].samples.dtype or shape != expected:
            raise UserError(f"{split} has samples {list(shape)} and train {list(expected)}; give all splits the same")
        if part.samples.dtype == object and not all(isinstance(text, str) and text.strip() for text in part.samples):
            raise UserError(f"{split} has samples that are no texts, or empty; mend or remove them")
        if part.samples.dtype == object and any(has_half_a_sign(text) for text in part.samples):
            raise UserError(f"{split} has a text with half of a sign that takes two (a lone surrogate); mend it")
        unknown = sorted(set(part.labels.tolist()) - set(range(len(class_names))))
        if unknown:
            raise UserError(f"{split} has the label {unknown[0]}; labels are 0 … {len(class_names) - 1}, or words")


def _items(dataset: Any) -> Pair:
    """(samples, labels) of a torch dataset."""
    items = [dataset[index] for index in range(len(dataset))]
    if any(not isinstance(item, (tuple, list)) or len(item) != 2 for item in items):
        raise UserError("the items of the dataset are not (sample, label); give one whose items are such pairs")
    samples = [sample.numpy() if hasattr(sample, "numpy") else sample for sample, _ in items]
    return samples, [label for _, label in items]
