"""What ran, runs, waits, failed and is missing: from the manifest, the records of the queue, and one scheduler query.

    done      its marker is there
    running, pending (why)    the scheduler says so
    failed (why)              submitted, over, and not done: the scheduler's or accounting's word, else the job's own
    missing                   never submitted

What nobody knows is said to be unknown.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpc.errors import ClusterError, Unanswered
from hpc.jobs import scheduler
from hpc.jobs.attempts import attempts_of
from hpc.jobs.job import STOPPED
from hpc.jobs.queue import Queue, Record
from hpc.jobs.study import MANIFEST
from hpc.jobs.submission import in_flight, log_path

# What people call the ends that SLURM knows.
ENDS = {
    "OUT_OF_MEMORY": "out of memory: raise cluster.steps.{kind}.mem_gb",
    "TIMEOUT": "out of time: raise cluster.steps.{kind}.timeout_min",
    "NODE_FAIL": "{node} failed; run again leaves it out",
    "BOOT_FAIL": "{node} did not boot; run again leaves it out",
    "DEADLINE": "its deadline passed",
    "PREEMPTED": "preempted, and not put back into the queue",
}
NEVER_RAN = "cancelled: what it needs failed, or by hand"
LAST_BYTES = 20_000


@dataclass(frozen=True)
class StepStatus:
    identity: str
    kind: str
    label: str
    state: str
    why: str
    elapsed_s: float  # of all attempts
    gpu_hours: float
    wasted_gpu_hours: float  # of attempts that ended with the step neither done nor saved
    job: str
    log: str


@dataclass(frozen=True)
class Overview:
    """A study at one moment."""

    folder: Path
    steps: tuple[StepStatus, ...]
    stuck: tuple[str, ...]  # jobs that wait for what has failed, and would wait for ever

    @staticmethod
    def of(folder: Path) -> Overview:
        """Raises ClusterError where there is no manifest, Unanswered where the scheduler does not answer."""
        manifest = read_manifest(folder)
        queue = Queue(Path(manifest["root"]))
        latest: dict[str, list[Record]] = {}
        for record in queue.records():
            for step in record.steps:
                latest.setdefault(step, []).append(record)
        known = _known(latest)
        ended = _ended(manifest["steps"], latest)
        stuck = {
            str(records[-1].job_id)
            for step in manifest["steps"]
            for records in [latest.get(step["identity"])]
            if records and any(task.is_stuck for task in records[-1].states(known).values())
        }
        steps = tuple(_status(step, latest, known, ended, queue) for step in manifest["steps"])
        return Overview(folder, steps, tuple(sorted(stuck)))

    @property
    def counts(self) -> Counter[str]:
        return Counter(step.state for step in self.steps)

    @property
    def is_over(self) -> bool:
        """Nothing waits or runs."""
        return not (self.counts["pending"] or self.counts["running"])

    def line(self) -> str:
        return ", ".join(f"{count} {state}" for state, count in sorted(self.counts.items()))

    def as_json(self) -> str:
        return json.dumps({"folder": str(self.folder), "steps": [asdict(step) for step in self.steps]}, indent=1)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Raises ClusterError."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ClusterError(f"{folder} has no {MANIFEST}; give the folder of a sweep, root/sweeps/NAME")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def watch(folder: Path, pause_s: float, longest_pause_s: float) -> Iterator[Overview]:
    """A sweep at one moment after the other until it is over; the pauses grow while nothing changes.

    Over is what is seen so twice, since a marker may take a moment to be seen from another machine. Where the
    controller does not answer, it is waited for.
    """
    pause, before, last_was_over = pause_s, "", False
    while True:
        try:
            overview = Overview.of(folder)
        except Unanswered as error:
            print(f"  {error}; asking again", file=sys.stderr, flush=True)
        else:
            yield overview
            if overview.is_over and (last_was_over or overview.steps[-1].state == "done"):
                return
            last_was_over = overview.is_over
            if overview.line() != before:
                pause, before = pause_s, overview.line()
        time.sleep(pause)
        pause = min(longest_pause_s, 1.5 * pause)


def cancel(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Take what waits or runs for a sweep out of the queue. Returns the identities of the steps that were taken out, of
    those that another sweep beside it waits for and keeps, and of those that other accounts submitted."""
    queue = Queue(Path(read_manifest(folder)["root"]))
    with queue.held():
        overview = Overview.of(folder)
        records = queue.records()
        flying = in_flight(records, scheduler.query(record.name for record in records))
        wanted = {
            step["identity"]
            for path in folder.absolute().parent.glob(f"*/{MANIFEST}")
            if path.parent != folder.absolute()
            for steps in [json.loads(path.read_text())["steps"]]
            if steps[-1]["identity"] in flying
            for step in steps
        }
        active = {step.identity: step.job for step in overview.steps if step.state in ("pending", "running")}
        own = {step: job for step, job in active.items() if step not in wanted}
        refused = scheduler.cancel([*own.values(), *overview.stuck])
    taken = [step for step, job in own.items() if job not in refused]
    return taken, [step for step in active if step in wanted], [step for step, job in own.items() if job in refused]


def _known(latest: dict[str, list[Record]]) -> scheduler.States:
    if shutil.which("squeue") is None:
        return {}  # no scheduler here: what is not done is unknown
    return scheduler.query(record.name for records in latest.values() for record in records)


def _ended(steps: list[dict[str, Any]], latest: dict[str, list[Record]]) -> scheduler.States:
    """Accounting's word on the last jobs of what is not done; nothing where there is no accounting."""
    return scheduler.history(
        str(latest[step["identity"]][-1].job_id)
        for step in steps
        if step["identity"] in latest and not Path(step["marker"]).exists()
    )


def _status(
    step: dict[str, Any],
    latest: dict[str, list[Record]],
    known: scheduler.States,
    ended: scheduler.States,
    queue: Queue,
) -> StepStatus:
    records = latest.get(step["identity"], [])
    state, why = _state(step, records, known, ended, queue)
    elapsed = gpu_hours = wasted = 0.0
    for record in records:
        attempts = attempts_of(queue.place(record.name), record.steps.index(step["identity"]))
        for attempt in attempts:
            runs = state == "running" and record is records[-1] and attempt is attempts[-1]
            seconds = time.time() - attempt.started if runs else attempt.seconds
            elapsed += seconds
            gpu_hours += seconds / 3600 * record.gpus
            wasted += seconds / 3600 * record.gpus * (attempt.exit_status not in (0, STOPPED) and not runs)
    job = log = ""
    if records:
        index = records[-1].steps.index(step["identity"])
        job = f"{records[-1].job_id}_{index}" if records[-1].is_array else str(records[-1].job_id)
        log = str(log_path(records[-1], queue.place(records[-1].name), index))
    return StepStatus(step["identity"], step["kind"], step["label"], state, why, elapsed, gpu_hours, wasted, job, log)


def _state(
    step: dict[str, Any],
    records: list[Record],
    known: scheduler.States,
    ended: scheduler.States,
    queue: Queue,
) -> tuple[str, str]:
    if Path(step["marker"]).exists():
        return "done", ""
    if not records:
        return "missing", "never submitted"
    record = records[-1]
    index = record.steps.index(step["identity"])
    task = record.states(known).get(step["identity"])
    if task is not None and task.is_stuck:
        return "failed", queue.why_cancelled(record) or "what it needs failed"
    if task is not None and task.is_active:
        state = "pending" if task.state in scheduler.PENDING else "running"
        return state, task.reason if state == "pending" else task.node
    of_task = [one for one in ended.get(record.name, []) if one.index in (index, None)]
    word = of_task[-1].state if of_task else (task.state if task is not None else "")
    node = of_task[-1].node if of_task else (task.node if task is not None else "")
    if word in scheduler.PENDING + scheduler.RUNNING:
        return "unknown", f"accounting says {word}, and squeue does not list it"
    place = queue.place(record.name)
    attempts, log = attempts_of(place, index), log_path(record, place, index)
    if word in ENDS:
        return "failed", ENDS[word].format(kind=step["kind"], node=node)
    if attempts and attempts[-1].exit_status is not None:
        return "failed", attempts[-1].message
    if word != "COMPLETED" and _ran_out_of_memory(log):
        return "failed", ENDS["OUT_OF_MEMORY"].format(kind=step["kind"])
    if word == "CANCELLED":
        return "failed", queue.why_cancelled(record) or ("cancelled" if attempts else NEVER_RAN)
    if word and not attempts:
        return "failed", f"{word} before it began: does {node or 'its node'} see {place}, and this Python?"
    if word:
        return "failed", f"the scheduler says {word}; see its log"
    return "unknown", "over, and neither its marker nor the scheduler says how"


def _ran_out_of_memory(log: Path) -> bool:
    """What SLURM writes where it does not say so in the job's state."""
    if not log.is_file():
        return False
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LAST_BYTES))
        text = file.read().decode(errors="replace")
    return any(word in text for word in ("oom_kill", "oom-kill", "exceeded memory limit"))
