"""The records under a root, which several processes and accounts read and write."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hpc.errors import ClusterError
from hpc.jobs import queue as module
from hpc.jobs.queue import RECORD, Queue, Record, new_record


def record(name: str, job_id: str | None, *needs: str) -> Record:
    """The job of a single step, which waits for the jobs of these names; a job's step has its name."""
    return replace(new_record(name, "tune", [(name, "", Path("x"))], needs, needs), job_id=job_id)


def queue_of(root: Path, *records: Record) -> Queue:
    queue = Queue(root)
    for item in records:
        queue.write(item)
    return queue


def test_a_record_that_vanishes_while_others_are_read_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A submission under its lock takes back what the site has refused; readers have no lock."""
    queue, read = queue_of(tmp_path, record("a", "7"), record("b", None)), module.read_json

    def read_late(path: Path, *rest: object) -> object:
        if path.parent.name == "b":
            path.unlink()
        return read(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "read_json", read_late)
    assert [item.name for item in queue.records()] == ["a"]


def test_a_broken_record_is_refused(tmp_path: Path) -> None:
    queue = queue_of(tmp_path, record("a", "7"))
    (queue.batch_folder("a") / RECORD).write_text("{")
    with pytest.raises(ClusterError, match=r"record.json is broken .*end the job a if squeue shows it"):
        queue.records()
