"""Datasets of torch and Hugging Face → what `Data.from_arrays` takes.

in:  a torch.utils.data.Dataset, or a datasets.Dataset or DatasetDict
out: samples and labels, the names of their classes, splits by name
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurogen.data.labels_in_memory import as_list
from neurogen.data.splits import split_named
from neurogen.errors import UserError, some_of

Pair = tuple[list[Any], list[Any]]  # samples and labels of a split


def items_of(dataset: Any, split: str) -> Pair:
    """(samples, labels) of a torch dataset. Raises UserError for what has no items by number, and for other items."""
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__") or isinstance(dataset, Mapping):
        raise UserError(
            f"{split} is a {type(dataset).__name__}, which has no items by number; give a torch.utils.data.Dataset "
            "whose items are (sample, label)"
        )
    items = [dataset[index] for index in range(len(dataset))]
    if any(not isinstance(item, (tuple, list)) or len(item) != 2 for item in items):
        raise UserError("the items of the dataset are not (sample, label); give one whose items are such pairs")
    return [sample for sample, _ in items], as_list([label for _, label in items])


def classes_of_whole(part: Any, labels: Sequence[Any]) -> list[str] | None:
    """The attribute `classes` of a dataset, or of the whole that it is a part of.

    None where that is no list, and, with a warning, where one of the labels of `part` is the number of no class.
    """
    from torch.utils.data import Subset

    while isinstance(part, Subset) and not hasattr(part, "classes"):
        part = part.dataset
    classes = getattr(part, "classes", None)
    if not isinstance(classes, (list, tuple, np.ndarray)):
        return None
    beyond = [label for label in labels if isinstance(label, int) and not 0 <= label < len(classes)]
    if beyond:
        warnings.warn(
            f"the classes of train ({some_of(list(classes))}) do not fit its labels, of which one is {beyond[0]}, so "
            "classes are called by their labels; to name them give class_names",
            stacklevel=3,
        )
        return None
    return [str(name) for name in classes]


def without_absent(pairs: dict[str, Pair], names: Sequence[str] | None) -> tuple[dict[str, Pair], Sequence[str] | None]:
    """Labels as names of classes, and the names that occur in train, in their order. All as it is without names."""
    if names is None:
        return pairs, None
    name_of = dict(enumerate(names))
    named = {
        split: (samples, [name_of.get(label, label) if isinstance(label, int) else label for label in labels])
        for split, (samples, labels) in pairs.items()
    }
    return named, [name for name in names if name in named["train"][1]]


def splits_of(dataset: Any) -> dict[str, Any]:
    """train, and where they are there validation and test, of a `datasets.Dataset` or a dictionary of such.

    Raises UserError for other types, without train, and for two names of one split.
    """
    splits: dict[str, Any] = {}
    for given, part in dataset.items() if isinstance(dataset, Mapping) else [("train", dataset)]:
        split = split_named(str(given))
        if split in splits:
            raise UserError(f"the dataset has {given} and another split that is {split} too; leave one of them out")
        if split is not None:
            splits[split.value] = part
    if "train" not in splits:
        raise UserError(f"the dataset has the splits {', '.join(map(str, dataset))}; it needs one that is called train")
    for name, part in splits.items():
        if not all(hasattr(part, attribute) for attribute in ("column_names", "features", "__len__")):
            raise UserError(
                f"{name} is a {type(part).__name__}; give a datasets.Dataset, or a datasets.DatasetDict of such; "
                "columns of pandas are for from_arrays((frame[COLUMN], frame[LABEL]))"
            )
    return splits
