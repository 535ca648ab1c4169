"""The history of a stage: what was measured at every step, one JSON object a line.

in:  rows as they become due; after a restart, the step to go on from
out: history.jsonl beside the checkpoints; the rows up to that step

A row is on the disk before a checkpoint of its step is. What a killed process leaves behind the newest checkpoint,
perhaps half a line, is cut off again when the run goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from neurogen import store

Metrics = dict[str, float]  # what was measured at one step, by name
FILE = "history.jsonl"


def append_rows(path: Path, rows: Sequence[Metrics]) -> None:
    """Add rows to the file, and wait until they are on the disk. Raises UserError where they cannot be written."""
    with store.writing(path):
        store.make_folder(path.parent)
        with open(path, "a", encoding="utf-8", opener=store.not_through_a_link) as file:
            file.write(_lines(rows))
        store.flush(path)
        store.flush(path.parent)


def write_rows(path: Path, rows: Sequence[Metrics]) -> None:
    """A file of these rows alone. Raises UserError where it cannot be written."""
    store.write_text(path, _lines(rows))


def read_rows(path: Path) -> Iterator[Metrics]:
    """The rows of a file that may be missing, or broken off in its last line."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            return


def _lines(rows: Sequence[Metrics]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)
