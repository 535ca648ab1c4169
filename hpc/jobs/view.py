"""A queue at one moment: what squeue, accounting and the jobs' own notes say of steps.

in:  records, and what the scheduler answered
out: of a step its position in its batch, its task and its attempts

An array has up to thousands of steps. Each of its folders is listed, and each answer looked through, once for all.
"""

from __future__ import annotations

from pathlib import Path

from hpc.jobs.answer import Answer
from hpc.jobs.attempts import Attempt, notes_in, read_attempts
from hpc.jobs.queue import Queue, Record
from hpc.jobs.scheduler import TaskState


class QueueView:
    """Of the queue under one root."""

    def __init__(self, queue: Queue, answer: Answer) -> None:
        self.queue, self.answer = queue, answer
        self._notes = dict[str, dict[int, list[Path]]]()
        self._tasks = dict[str, dict[str, TaskState]]()
        self._indices = dict[str, dict[str, int]]()

    def index(self, record: Record, step: str) -> int:
        """The position of a step in its batch."""
        if record.name not in self._indices:
            self._indices[record.name] = {identity: index for index, identity in enumerate(record.steps)}
        return self._indices[record.name][step]

    def task(self, record: Record, step: str) -> TaskState | None:
        """What squeue said last of a step."""
        if record.name not in self._tasks:
            self._tasks[record.name] = record.states(self.answer.known)
        return self._tasks[record.name].get(step)

    def attempts(self, record: Record, step: str) -> list[Attempt]:
        """All attempts at a step by this batch, the oldest first. Raises ClusterError where a note is broken."""
        if record.name not in self._notes:
            self._notes[record.name] = notes_in(self.queue.batch_folder(record.name))
        return read_attempts(self._notes[record.name].get(self.index(record, step), []))
