"""Every step that reads data says what it read: samples of each class, and what was left out.

in:  a dataset
out: one line on the terminal, once in a process; data.json in the folders of the steps that are the first to read it
"""

from __future__ import annotations

from pathlib import Path

from neurogen import store
from neurogen.data.dataset import Dataset
from neurogen.data.report import FILE, DataReport
from neurogen.study.results import to_json
from neurogen.training.runtime import Runtime

_reported: set[str] = set()  # fingerprints of the data that this process has spoken of


def say_what_was_read(dataset: Dataset, runtime: Runtime) -> None:
    """Print the line, unless this process has done so or is not the first rank."""
    if runtime.is_first and dataset.fingerprint not in _reported:
        _reported.add(dataset.fingerprint)
        print(f"  {DataReport.of(dataset.name, dataset).line()}", flush=True)


def note_what_was_read(dataset: Dataset, folder: Path, runtime: Runtime) -> None:
    """As `say_what_was_read`, and write data.json. Raises UserError where the folder cannot be written."""
    say_what_was_read(dataset, runtime)
    if runtime.is_first:
        store.write_json(folder / FILE, to_json(DataReport.of(dataset.name, dataset)))
