"""What was read of a dataset: samples of each class in each split, and what was left out or changed.

in:  the splits of a loader, or a dataset made of them
out: a DataReport: one line at the start of a run, data.json in the folders of steps, a table in report.html

No torch here, so that a finished run is shown at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neurogen.data.dataset import Dataset
    from neurogen.data.raw import RawSplits

FILE = "data.json"  # in the folder of a step
MOST_CLASSES_IN_A_LINE = 10


@dataclass(frozen=True)
class DataReport:
    """Numbers of samples by class, in the order of `class_names`, and the notes of the loader."""

    name: str  # of the dataset
    class_names: tuple[str, ...]
    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @staticmethod
    def of(name: str, data: Dataset | RawSplits) -> DataReport:
        """The report of data that has all three splits."""
        import numpy as np  # a finished run is shown without it

        assert data.validation is not None
        train, validation, test = (
            tuple(np.bincount(np.asarray(split.labels), minlength=len(data.class_names)).tolist())
            for split in (data.train, data.validation, data.test)
        )
        return DataReport(name, data.class_names, train, validation, test, data.notes)

    @property
    def per_class(self) -> tuple[int, ...]:
        """Samples of each class in all splits."""
        return tuple(map(sum, zip(self.train, self.validation, self.test, strict=True)))

    def line(self) -> str:
        """`data NAME: train 36, validation 4, test 10 of 2 classes (cat: 25, dog: 25); left out: 3 files .txt`."""
        counts = self.per_class
        if len(counts) > MOST_CLASSES_IN_A_LINE:
            classes = f"{min(counts):,} to {max(counts):,} of each"
        else:
            classes = ", ".join(f"{name}: {count:,}" for name, count in zip(self.class_names, counts, strict=True))
        splits = f"train {sum(self.train):,}, validation {sum(self.validation):,}, test {sum(self.test):,}"
        about = f"data {self.name}: {splits} of {len(counts):,} classes ({classes})"
        return "; ".join((about, *self.notes))
