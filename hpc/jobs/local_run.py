"""What a sweep that ran as processes of one machine left behind.

in:  the folder of its steps' notes and logs, root/queue/local-KEY
out: of a step its attempts, its log, and a State
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc.jobs.attempts import STOPPED, Attempt, notes_in, read_attempts
from hpc.jobs.queue import Queue
from hpc.jobs.site_check import KIND
from hpc.jobs.state import State
from hpc.jobs.sweep import ManifestStep
from hpc.jobs.unheard import MISSED_S, age


def folder_of(queue: Queue, last: str) -> Path:
    """Where notes and logs of a sweep are, whose last step has this key."""
    return queue.batch_folder(f"local-{last}")


@dataclass(frozen=True)
class LocalRun:
    """The notes and logs of a sweep's steps."""

    folder: Path
    notes: dict[str, list[Path]]  # of attempts, by step identity

    @staticmethod
    def of(queue: Queue, steps: Sequence[ManifestStep]) -> LocalRun:
        """Of the sweep with these steps. There may be none."""
        identities = [step.identity for step in steps if step.kind != KIND]  # one machine is not checked
        folder = folder_of(queue, identities[-1].rpartition("-")[2])
        by_index = notes_in(folder)
        return LocalRun(folder, {step: by_index.get(index, []) for index, step in enumerate(identities)})

    def attempts(self, step: str) -> list[Attempt]:
        """At a step, the oldest first. Raises ClusterError where a note is broken."""
        return read_attempts(self.notes.get(step, []))

    def log(self, step: str) -> Path:
        """Where all attempts at a step write."""
        return self.folder / f"{step}.log"


def state_of(attempts: Sequence[Attempt]) -> tuple[State, str]:
    """The state, and its reason, of a step that is not done."""
    if not attempts:
        return State.MISSING, "never submitted"
    last = attempts[-1]
    if last.exit_status is None:
        if time.time() - last.ended < MISSED_S:
            return State.RUNNING, f"a process of one machine, sign of life {age(last.ended)} ago"
        return State.FAILED, f"its process has ended without a word, {age(last.ended)} ago"
    if last.exit_status in (0, STOPPED):
        return State.MISSING, last.message or "its results are gone"
    return State.FAILED, last.message
