"""The splits of a dataset, and what folders and files of them are called."""

from __future__ import annotations

from enum import StrEnum


class SplitName(StrEnum):
    """The splits of a dataset."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


BY_NAME = {
    "train": SplitName.TRAIN,
    "training": SplitName.TRAIN,
    "val": SplitName.VALIDATION,
    "valid": SplitName.VALIDATION,
    "validation": SplitName.VALIDATION,
    "dev": SplitName.VALIDATION,
    "test": SplitName.TEST,
    "testing": SplitName.TEST,
}


def split_named(name: str) -> SplitName | None:
    """The split of a folder, or of a file without its ending, that has this name in any case; None where it is none."""
    return BY_NAME.get(name.lower())
