"""What the scheduler says of the jobs under a root, and what it said last where it does not answer.

in:  the records under a root, and the jobs that accounting is asked about
out: Answer, at once: squeue and sacct are asked at the same time, and only for a few seconds

The last answer of squeue is kept in root/queue, by every account in a file of its own. So a status without a controller
still knows what ran.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpc.errors import ClusterError, Unwritable
from hpc.jobs import scheduler
from hpc.jobs.files import read_json, write_json
from hpc.jobs.queue import Queue, Record, states_of
from hpc.jobs.scheduler import States, TaskState
from hpc.types import require_types

FILES = "answer-*.json"
PATIENCE_S = 5.0  # a user waits for a status; a controller that is well answers in a fraction of this


@dataclass(frozen=True)
class Answer:
    """What squeue and accounting say of jobs, by their names."""

    known: States  # squeue's
    ended: States  # accounting's, empty without accounting
    as_of: float | None  # when squeue said so, in seconds since the epoch; None: it never did
    silence: str = ""  # why squeue did not answer now; empty where it did


def answer_now(queue: Queue, records: Sequence[Record], ended: Sequence[str]) -> Answer:
    """Ask squeue about these batches, and accounting about jobs with the ids `ended`."""
    with ThreadPoolExecutor(1) as pool:
        history = pool.submit(scheduler.history, ended, PATIENCE_S)
        as_of = time.time()  # before squeue is asked: later signs of life are news
        try:
            answer = Answer(states_of(records, 1, PATIENCE_S), history.result(), as_of)
        except ClusterError as error:
            return _kept(queue.folder, str(error), history.result())
    _keep(queue.folder / FILES.replace("*", str(os.geteuid())), answer)
    return answer


def _keep(path: Path, answer: Answer) -> None:
    """Replace the kept answer.

    Whoever may only read the root, or whose disk is full, sees a status too; the older answer stays there and is true.
    """
    tasks = [asdict(task) | {"name": name} for name, tasks in answer.known.items() for task in tasks]
    try:
        write_json(path, {"as_of": answer.as_of, "tasks": tasks})
    except Unwritable:
        return


def _kept(folder: Path, silence: str, ended: States) -> Answer:
    """The newest answer that an account has kept, if there is one."""
    path = max(folder.glob(FILES), key=lambda path: path.stat().st_mtime, default=None)
    if path is None:
        return Answer({}, ended, None, silence)

    def answer(values: Any) -> Answer:
        known: States = {}
        for task in values["tasks"]:
            known.setdefault(task.pop("name"), []).append(TaskState(**task))
        for state in (task for tasks in known.values() for task in tasks):
            require_types(state)
        return Answer(known, ended, float(values["as_of"]), silence)

    return read_json(path, answer, "delete it: it is what the scheduler said last")
