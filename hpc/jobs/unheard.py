"""The state of a step while the scheduler does not answer: what files tell.

in:  the newest record of a step that is not done, what squeue said of it last, the job's own notes
out: a State; its reason says how old the knowledge is, or that only the scheduler has it
"""

from __future__ import annotations

import time

from hpc.jobs import scheduler
from hpc.jobs.answer import Answer
from hpc.jobs.attempts import HEARTBEAT_S, STOPPED, Attempt
from hpc.jobs.queue import Record
from hpc.jobs.scheduler import TaskState
from hpc.jobs.state import State
from hpc.jobs.view import QueueView

MISSED_S = 8 * HEARTBEAT_S  # without a sign of life for so long, a job need not run any more


def state_of(record: Record, step: str, view: QueueView) -> tuple[State, str]:
    """The state and its reason of a step of a batch."""
    attempts, task, answer = view.attempts(record, step), view.task(record, step), view.answer
    newest = attempts[-1] if attempts else None
    as_of = f"as of {age(answer.as_of)} ago" if answer.as_of is not None else ""
    if newest is not None and newest.exit_status not in (None, 0, STOPPED):
        return State.FAILED, newest.message
    if reason := view.queue.cancel_reason(record):
        return State.FAILED, reason
    is_alive = newest is not None and newest.exit_status is None and time.time() - newest.ended < MISSED_S
    if newest is not None and is_alive and not _is_known_to_wait(task, newest, answer):
        node = f"on {task.node}, " if task is not None and task.node else ""
        return State.RUNNING, f"{node}sign of life {age(newest.ended)} ago"
    if task is not None and task.is_active:
        if task.state in scheduler.PENDING:
            return State.PENDING, f"{task.reason}, {as_of}"
        return State.RUNNING, f"{task.node}, {as_of}"
    since = f"submitted {age(record.submitted)} ago"
    if newest is not None:
        gone = "last sign of life" if newest.exit_status is None else "by its own note done"
        since = newest.message or f"{gone} {age(newest.ended)} ago"
    return State.UNKNOWN, f"{since}; only the scheduler knows more"


def _is_known_to_wait(task: TaskState | None, newest: Attempt, answer: Answer) -> bool:
    """Whether squeue said after the attempt's last sign of life that the job waits: it was killed and put back."""
    is_later = answer.as_of is not None and answer.as_of > newest.ended
    return is_later and task is not None and task.state in scheduler.PENDING


def age(moment: float) -> str:
    """How long ago that was, in the unit that one would say: 12 s, 3 min, 5 h, 2 d."""
    seconds = max(0.0, time.time() - moment)
    for unit, length, limit in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 48 * 3600)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
