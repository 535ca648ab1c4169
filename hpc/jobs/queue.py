"""What was submitted under a root, by anybody: one record per batch in root/queue/, written before its sbatch.

A record without a job id is an intent: the submission was interrupted before, or after, the scheduler heard of it.
The scheduler is asked by the batch's name, which is unique, and the record completed or taken back.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hpc.errors import ClusterError
from hpc.jobs import scheduler
from hpc.jobs.scheduler import States, TaskState

RECORD = "record.json"
CANCELLED = "cancelled.txt"


@dataclass(frozen=True)
class Record:
    """One batch in the queue."""

    name: str
    kind: str
    steps: tuple[str, ...]  # identities; their places are the indices of an array
    labels: tuple[str, ...]
    folders: tuple[str, ...]
    after: tuple[str, ...]  # names of the batches that it waits for
    is_array: bool
    gpus: int  # of one task
    submitted: float
    by: str
    job_id: str | None = None
    needs: tuple[str, ...] = ()  # identities of the steps that must be done for it to run
    code: str = ""  # which snapshot it runs

    def states(self, known: States) -> dict[str, TaskState]:
        """By step identity, what squeue says."""
        found = {}
        for task in known.get(self.name, []):
            if task.job_id == self.job_id:
                whole = range(len(self.steps)) if task.index is None else [task.index]
                found.update({self.steps[index]: task for index in whole if index < len(self.steps)})
        return found


class Queue:
    """The records under one root."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "queue"

    @contextmanager
    def held(self) -> Iterator[None]:
        """One submission at a time, by whomever. Raises ClusterError where this account may not write."""
        lock = FileLock(self.folder / ".lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            print(f"  waiting: another submission is at work on {self.folder}", file=sys.stderr, flush=True)
            lock.acquire()
        except PermissionError as error:
            raise ClusterError(
                f"{error.filename} is not yours to write; whoever shares a root needs a common group, a folder with "
                "chmod g+ws, and umask 002"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def records(self) -> list[Record]:
        found = [self._read(path) for path in self.folder.glob(f"*/{RECORD}")]
        return sorted(found, key=lambda record: record.submitted)

    def place(self, name: str) -> Path:
        return self.folder / name

    def write(self, record: Record) -> None:
        path = self.place(record.name) / RECORD
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(asdict(record), indent=1) + "\n")
        os.replace(temporary, path)

    def forget(self, record: Record) -> None:
        """What the scheduler refused was never in the queue."""
        (self.place(record.name) / RECORD).unlink()

    def cancel_what_needs(self, step: str, name: str, why: str) -> None:
        """Take out of SLURM's queue what waits for this step of the batch `name`, and what waits for that; say why.

        Jobs of other accounts stay; SLURM's own way with them is kill-on-invalid-dep.
        """
        hopeless, failed, found = {step}, {name}, list[Record]()
        records = [one for one in self.records() if one.job_id is not None]
        grows = True
        while grows:
            new = [one for one in records if hopeless & set(one.needs) and failed & set(one.after) and one not in found]
            hopeless |= {waiting for record in new for waiting in record.steps}
            failed |= {record.name for record in new}
            found += new
            grows = bool(new)
        for record in found:
            (self.place(record.name) / CANCELLED).write_text(f"{step} failed: {why}\n")
        scheduler.cancel(str(record.job_id) for record in found)

    def why_cancelled(self, record: Record) -> str:
        path = self.place(record.name) / CANCELLED
        return path.read_text().strip() if path.exists() else ""

    def settle(self, known: States) -> None:
        """Complete the intents that the scheduler knows of; take back the others."""
        for record in self.records():
            if record.job_id is None:
                heard_of = known.get(record.name)
                if heard_of:
                    self.write(replace(record, job_id=heard_of[-1].job_id))
                else:
                    self.forget(record)

    @staticmethod
    def _read(path: Path) -> Record:
        values: dict[str, Any] = json.loads(path.read_text())
        lists = ("steps", "labels", "folders", "after", "needs")
        return Record(**(values | {name: tuple(values[name]) for name in lists if name in values}))


def new_record(
    name: str,
    kind: str,
    steps: list[tuple[str, str, Path]],
    after: Sequence[str] = (),
    needs: Sequence[str] = (),
    gpus: int = 0,
    code: str = "",
) -> Record:
    """`steps` are identities with labels and folders."""
    return Record(
        name,
        kind,
        steps=tuple(step for step, _, _ in steps),
        labels=tuple(label for _, label, _ in steps),
        folders=tuple(str(folder) for _, _, folder in steps),
        after=tuple(after),
        is_array=len(steps) > 1,
        gpus=gpus,
        submitted=time.time(),
        by=os.environ.get("USER") or str(os.getuid()),
        needs=tuple(needs),
        code=code,
    )
