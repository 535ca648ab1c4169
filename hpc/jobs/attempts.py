"""A job's own notes of its attempts at a step. They need no accounting.

in:  what rank 0 of a job writes while it runs, as attempt-INDEX-STARTED.json beside the batch's script
out: attempts with start, end and outcome, for `status` and for the limit of requeues
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

from hpc.errors import Unwritable
from hpc.jobs.files import read_json, write_json
from hpc.types import require_types

HEARTBEAT_S = 15.0
STOPPED = 130  # the exit status of an attempt that was asked to stop, and saved
RESERVE, RESERVED_BYTES = "reserve", 65536  # a file in a batch's folder that makes room where a disk is full


@dataclass(frozen=True)
class Attempt:
    """One run of one step. The start is on disk while it runs; the end follows if the process lives to write it."""

    started: float  # seconds since the epoch
    ended: float  # the last heartbeat while it runs, and also if it was killed
    exit_status: int | None  # None: it runs, or was killed
    message: str
    requeued: bool = False  # it ran out of time, and the job was put back into the queue
    number: int = 0  # how many came before; the clocks of nodes do not tell

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return max(0.0, self.ended - self.started)


def attempts_of(folder: Path, index: int) -> list[Attempt]:
    """All attempts at the step `index` of the batch in `folder`, the oldest first.

    Raises ClusterError where a note is broken.
    """
    return read_attempts(folder.glob(f"attempt-{index}-*.json"))


def notes_in(folder: Path) -> dict[int, list[Path]]:
    """The notes of all attempts at steps of the batch in `folder`, by the step's index."""
    notes: dict[int, list[Path]] = {}
    for path in folder.glob("attempt-*-*.json"):
        index = path.name.split("-")[1]
        if index.isdecimal():
            notes.setdefault(int(index), []).append(path)
    return notes


def read_attempts(notes: Iterable[Path]) -> list[Attempt]:
    """The attempts in these notes, the oldest first.

    Fields that another version of the code wrote are ignored. Raises ClusterError where a note is broken.
    """
    attempts = []
    for path in notes:
        attempts.append(read_json(path, partial(_attempt, path.stat().st_mtime), "delete it: it is a note of times"))
    return sorted(attempts, key=lambda attempt: (attempt.number, attempt.started))


def _attempt(last_change: float, values: Any) -> Attempt:
    names = {item.name for item in fields(Attempt)}
    known = {name: value for name, value in values.items() if name in names}
    attempt = Attempt(**{**known, "ended": known["ended"] or last_change})
    require_types(attempt)
    return attempt


class AttemptLog:
    """Writes down the attempt of this process at the step `index` of the batch in `folder`."""

    def __init__(self, folder: Path, index: int) -> None:
        self.folder, self.index = folder, index
        before = attempts_of(folder, index)
        self.num_requeued = sum(attempt.requeued for attempt in before)
        number = max((attempt.number + 1 for attempt in before), default=0)
        self.attempt, self._ended = Attempt(time.time(), 0.0, None, "", number=number), Event()

    def begin(self) -> None:
        """Write the start, and keep the file's time current until the end."""
        self.write(self.attempt)
        Thread(target=self._beat, daemon=True).start()

    def end(self, attempt: Attempt) -> None:
        """Write the outcome."""
        self._ended.set()
        self.write(attempt)

    def write(self, attempt: Attempt) -> None:
        """Replace the file of this attempt, atomically; on a full disk in the room that the reserve has left."""
        try:
            write_json(self._path(attempt), asdict(attempt))
        except Unwritable:
            (self.folder / RESERVE).unlink(missing_ok=True)
            write_json(self._path(attempt), asdict(attempt))

    def write_lost(self, message: str) -> bool:
        """Write why the newest attempt ended, in place of its rank 0, which no longer can.

        The rank that notices first writes. Returns whether this was the first.
        """
        attempts = attempts_of(self.folder, self.index)
        is_first = bool(attempts) and attempts[-1].exit_status is None
        if is_first:
            self.write(replace(attempts[-1], ended=time.time(), exit_status=1, message=message))
        return is_first

    def _path(self, attempt: Attempt) -> Path:
        return self.folder / f"attempt-{self.index}-{attempt.started:.3f}.json"

    def _beat(self) -> None:
        """If the process is killed, the time of its file says how long it lived."""
        while not self._ended.wait(HEARTBEAT_S):
            with suppress(OSError):  # a disk that fails now may be there at the next one
                os.utime(self._path(self.attempt), follow_symlinks=False)
