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
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurogen.api.datasets_of import classes_of_whole, items_of, splits_of, without_absent
from neurogen.data.arrays import size_of_splits, store_splits
from neurogen.data.images_in_memory import as_bytes
from neurogen.data.labels import Classes
from neurogen.data.labels_in_memory import as_list, indices_in_memory, numbers_of
from neurogen.data.raw import Labelled
from neurogen.data.texts import has_half_a_sign
from neurogen.errors import UserError, some_of

Pair = tuple[Any, Any]  # samples, labels
COLOUR = 3  # channels
DARK = 16  # of 255: floats or bytes that were scaled to less than their range


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
        labels       whole numbers or words; with `class_names` these, or the numbers 0 … classes − 1
        class_names  a list in the order of the numbers; left out: the labels themselves, in ascending order
        title        what the instruction calls the data; left out: image or text
        name         what folders and tables call it: letters, digits, _ and -; left out: made of the title

        Raises UserError for other samples, labels that fit no class, and different numbers of samples and labels.
        """
        given = {"train": _samples(train, "train")}
        pictures_have = _channels_beside(given["train"][0])
        for split, pair in (("validation", validation), ("test", test)):
            if pair is not None:
                given[split] = _samples(pair, split, pictures_have)
        numbers, names, were_places = indices_in_memory([part for _, part in given.values()], class_names, "labels")
        splits = {
            split: Labelled.of(samples, part)
            for (split, (samples, _)), part in zip(given.items(), numbers, strict=True)
        }
        _refuse(splits, names)
        if were_places:
            _warn_of_other_numbers(names)
        title = title or ("text" if splits["train"].samples.dtype == object else "image")
        return Data(title, _name_of(title, name), names, splits)

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
        out, the attribute `classes` of `train` counts, of a part (torch.utils.data.Subset, random_split) that of the
        whole. It is left out, with a warning, where it does not fit the labels, and so are classes without a sample in
        train. The rest is as in `from_arrays`, errors included.
        """
        parts = {"train": train, "test": test, "validation": validation}
        pairs = {split: items_of(part, split) for split, part in parts.items() if part is not None or split == "train"}
        if class_names is None:
            pairs, class_names = without_absent(pairs, classes_of_whole(train, pairs["train"][1]))
        return Data.from_arrays(**pairs, class_names=class_names, title=title, name=name)

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

        Splits may have the other names that folders may have (valid, dev, …); splits of further names are left out.
        `samples` names the column of pictures or texts (left out: image, img or text, whichever there is), `label`
        that of the classes. Where `class_names` is left out, the names that the label column knows count, without those
        of classes that have no sample in train. The rest is as in `from_arrays`, errors included.
        """
        splits = splits_of(dataset)
        columns = splits["train"].column_names
        column = samples or next((known for known in ("image", "img", "text") if known in columns), "text")
        for split, part in splits.items():
            if not {column, label} <= set(part.column_names):
                raise UserError(
                    f"{split} has the columns {', '.join(part.column_names)}; give samples=COLUMN of the pictures or "
                    "texts, and label=COLUMN of their classes"
                )
        pairs = {split: (list(part[column]), as_list(part[label])) for split, part in splits.items()}
        if class_names is None:
            pairs, class_names = without_absent(pairs, getattr(splits["train"].features[label], "names", None))
        return Data.from_arrays(**pairs, class_names=class_names, title=title, name=name)

    @property
    def modality(self) -> str:
        """`image` or `text`."""
        return "text" if self.splits["train"].samples.dtype == object else "image"

    @property
    def size(self) -> str:
        """What dataset.size says of it: the zoo is trained for fewer epochs where there are many samples."""
        samples = self.splits["train"].samples
        about = size_of_splits(len(samples), self.splits)
        image = "null" if samples.dtype == object else list(samples.shape[1:])
        return (
            f"{{num_train:{about['num_train']},validation_is_cut:{str(about['validation_is_cut']).lower()},"
            f"num_classes:{len(self.class_names)},image:{image}}}"
        )

    def save(self, root: str | Path) -> Path:
        """Store the data under the root of a run; returns the file. What is there already is not written again.

        Raises UserError where the file cannot be written.
        """
        require_place("root", root)
        return store_splits(self.splits, self.class_names, Path(root) / "data")

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(part):,} {split}" for split, part in self.splits.items())
        return f"Data({self.title}: {sizes} {self.modality}s of {len(self.class_names)} classes)"


def _samples(pair: Any, split: str, channels: int | None = None) -> tuple[Any, list[Any]]:
    """(bytes of images or a list of texts, a list of labels) of one split; pictures get so many channels."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise UserError(f"{split} is a {type(pair).__name__}; give (samples, labels)")
    samples, labels = pair
    labels = as_list(labels, f"the labels of {split}")
    samples = texts_of(samples)
    is_text = isinstance(samples, (list, tuple)) and any(isinstance(sample, str) for sample in samples)
    if is_text:
        samples = list(samples)
    else:
        samples = as_bytes(samples, f"the images of {split}", channels=channels)
        _warn_of_dark(samples, split)
    if len(samples) != len(labels):
        raise UserError(f"{split} has {len(samples):,} samples and {len(labels):,} labels; give as many of both")
    return samples, labels


def require_place(key: str, place: object) -> None:
    """Raises UserError for what is no place of a file or a folder."""
    if not isinstance(place, (str, PathLike)):
        raise UserError(f"{key}={place!r} is a {type(place).__name__}; give a path")


def _warn_of_dark(images: NDArray[np.uint8], split: str) -> None:
    """Warn of images whose values were scaled to less than their range."""
    if 0 < images.max() <= DARK:
        warnings.warn(
            f"the images of {split} are nearly black, no value is above {images.max()} of 255; scale floats to 0 … 1, "
            "and bytes to 0 … 255",
            stacklevel=4,
        )


def _channels_beside(train: Any) -> int | None:
    """The channels of pictures beside training data in colour, of which some may be grey; else as they have them."""
    return COLOUR if isinstance(train, np.ndarray) and train.shape[1] == COLOUR else None


def _warn_of_other_numbers(names: tuple[str, ...]) -> None:
    """Warn where the names of the classes are numbers too, and other ones than the labels."""
    numbers = numbers_of(Classes(names, None))
    if numbers is not None and any(number != index for number, index in numbers.items()):
        warnings.warn(
            f"the labels are 0 … {len(names) - 1}, and class_names are other whole numbers ({some_of(names)}); "
            "networks will read a whole number as a name; to avoid that leave class_names out, or give words as names",
            stacklevel=3,
        )


def _name_of(title: Any, name: Any) -> str:
    """What folders and tables call the data. Raises UserError for what is no text and what no folder can be called."""
    for key, value in (("title", title), ("name", "" if name is None else name)):
        if not isinstance(value, str):
            raise UserError(f"{key}={value!r} is a {type(value).__name__}; give a text")
    made = name or re.sub(r"\W+", "_", title).strip("_").lower()
    if not re.fullmatch(r"[\w-]+", made):
        given = f"name={name!r}" if name else f"title={title!r}"
        raise UserError(f"{given} makes no name of a folder; give name= with letters, digits, _ and -")
    return str(made)


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
            raise UserError(
                f"{split} has the label {unknown[0]}; labels are 0 … {len(class_names) - 1}, or words; give those, or "
                "leave class_names out"
            )
