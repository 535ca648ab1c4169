"""Attempts at a step, as files beside the batch's script: what a job itself knows of how it went, without sacct."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from threading import Event, Thread

SIGN_OF_LIFE_S = 15.0


@dataclass(frozen=True)
class Attempt:
    """One run of one step: its beginning is on disk while it runs, its end when it could still say so."""

    started: float
    ended: float  # while it runs, and where it was killed: the last sign of it
    exit_status: int | None
    message: str
    requeued: bool = False  # it ran out of time, and the job was put back into the queue

    @property
    def seconds(self) -> float:
        return max(0.0, self.ended - self.started)


def attempts_of(folder: Path, index: int) -> list[Attempt]:
    """All attempts at a step of the batch in `folder`, the oldest first, whichever version of the code noted them."""
    found = []
    names = {item.name for item in fields(Attempt)}
    for path in folder.glob(f"attempt-{index}-*.json"):
        values = {name: value for name, value in json.loads(path.read_text()).items() if name in names}
        found.append(Attempt(**{**values, "ended": values["ended"] or path.stat().st_mtime}))
    return sorted(found, key=lambda attempt: attempt.started)


class Diary:
    """What rank 0 of a job notes of its attempt at a step."""

    def __init__(self, folder: Path, index: int) -> None:
        self.folder, self.index = folder, index
        self.num_requeued = sum(attempt.requeued for attempt in attempts_of(folder, index))
        self.attempt, self.over = Attempt(time.time(), 0.0, None, ""), Event()

    def begin(self) -> None:
        self.note(self.attempt)
        Thread(target=self._show_life, daemon=True).start()

    def end(self, attempt: Attempt) -> None:
        self.over.set()
        self.note(attempt)

    def note(self, attempt: Attempt) -> None:
        path = self._path(attempt)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(asdict(attempt)) + "\n")
        os.replace(temporary, path)

    def note_lost(self, message: str) -> bool:
        """By the rank that found out first: what the newest attempt, which cannot say it any more, ended with. Returns
        whether this was the first."""
        attempts = attempts_of(self.folder, self.index)
        is_first = bool(attempts) and attempts[-1].exit_status is None
        if is_first:
            self.note(replace(attempts[-1], ended=time.time(), exit_status=1, message=message))
        return is_first

    def _path(self, attempt: Attempt) -> Path:
        return self.folder / f"attempt-{self.index}-{attempt.started:.3f}.json"

    def _show_life(self) -> None:
        """Where an attempt is killed, its file's time says until when it lived."""
        while not self.over.wait(SIGN_OF_LIFE_S):
            os.utime(self._path(self.attempt))
