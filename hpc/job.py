"""What runs on a node: one step of a batch, out of the file that was written before it was submitted.

    python -m hpc BATCH_FOLDER [INDEX]

The first SIGUSR2 (the time limit comes near) or SIGTERM (preempted, cancelled) lets the step save. After SIGUSR2 the
job puts itself back into the queue, at most `max_requeues` times. Exit status 0 means that the step is done, 130 that
it was stopped, 124 that it ran out of time for good.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

from hpc.errors import ClusterError
from hpc.graph import Step, identity
from hpc.queue import Queue

PAYLOAD = "payload.pkl"
STOPPED = 130
OUT_OF_TIME = 124
SIGN_OF_LIFE_S = 15.0


@dataclass(frozen=True)
class Payload:
    """The steps of a batch and how to make what they run on; every field pickles by reference to its module."""

    steps: tuple[Step, ...]
    make_runtime: Callable[[], Any]  # the runtime has a flag `stop` that a signal sets
    interrupted: type[BaseException]  # what a step raises after it saved
    refused: type[BaseException]  # what a step raises where a line for the user says it all
    max_requeues: int

    def write(self, folder: Path) -> None:
        (folder / PAYLOAD).write_bytes(pickle.dumps(self))

    @staticmethod
    def read(folder: Path) -> Payload:
        found = pickle.loads((folder / PAYLOAD).read_bytes())  # noqa: S301  (written by the submission beside it)
        assert isinstance(found, Payload)
        return found


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


def main() -> None:
    folder = Path(sys.argv[1])
    index = int(sys.argv[2] if len(sys.argv) > 2 else os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    payload, started = Payload.read(folder), time.time()
    path = folder / f"attempt-{index}-{started:.3f}.json"
    requeues_left = payload.max_requeues - sum(attempt.requeued for attempt in attempts_of(folder, index))
    _note(path, Attempt(started, 0.0, None, ""))
    over = Event()
    Thread(target=_show_life, args=(path, over), daemon=True).start()
    status, message = 1, ""
    try:
        status, message = run(payload, index)
    finally:
        over.set()
        error = sys.exc_info()[1]
        if error is not None:
            message = f"{type(error).__name__}: {' '.join(str(error).split())[:200]} (traceback in its log)"
        ended = Attempt(started, time.time(), status, message)
        if status == OUT_OF_TIME:
            ended = _put_back(ended, path, requeues_left)
            print(ended.message, flush=True)
        _note(path, ended)
        if ended.exit_status not in (0, STOPPED) and "SLURM_JOB_ID" in os.environ:
            _cancel_what_needs(payload.steps[index], folder, ended.message)
    sys.exit(ended.exit_status)


def _cancel_what_needs(step: Step, folder: Path, why: str) -> None:
    """SLURM may do it too, later and without a reason; so nothing is lost where it cannot be asked from here."""
    try:
        Queue(folder.parent.parent).cancel_what_needs(identity(step), folder.name, why)
    except (ClusterError, OSError) as error:
        print(f"could not cancel what hangs on this step: {error}", file=sys.stderr, flush=True)


def _note(path: Path, attempt: Attempt) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(attempt)) + "\n")
    os.replace(temporary, path)


def _show_life(path: Path, over: Event) -> None:
    """Where an attempt is killed, its file's time says until when it lived."""
    while not over.wait(SIGN_OF_LIFE_S):
        os.utime(path)


def run(payload: Payload, index: int) -> tuple[int, str]:
    """Run the step; returns the exit status, and why it is not 0."""
    step = payload.steps[index]
    runtime = payload.make_runtime()
    near_limit = False

    def stop(number: int, frame: object) -> None:
        nonlocal near_limit
        near_limit = near_limit or number == signal.SIGUSR2
        runtime.stop.set()
        print(f"signal {signal.Signals(number).name}: saving, then stopping", flush=True)

    for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    print(f"{identity(step)} {step.label} on {os.uname().nodename}, {time.strftime('%Y-%m-%d %H:%M:%S')}", flush=True)
    try:
        step.run(runtime)
    except payload.interrupted:
        return (OUT_OF_TIME, "out of time") if near_limit else (STOPPED, "stopped by a signal, saved")
    except payload.refused as error:
        message = " ".join(str(error).split())
        print(f"error: {message}", file=sys.stderr, flush=True)
        return int(getattr(error, "exit_status", 1)), message
    return 0, ""


def _put_back(ended: Attempt, path: Path, requeues_left: int) -> Attempt:
    """The attempt that ran out of time, with what became of its job. An array's other tasks stay where they are."""
    job, array = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_ARRAY_JOB_ID")
    if job is None:
        return ended
    if requeues_left <= 0:
        return replace(ended, message="out of time, as often as cluster.max_requeues allows")
    requeued = replace(ended, exit_status=STOPPED, message="out of time, back in the queue", requeued=True)
    _note(path, requeued)  # first, since SLURM ends this process too
    name = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else job
    done = subprocess.run(["scontrol", "requeue", name], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return requeued
    return replace(ended, message=f"out of time, and not put back into the queue: {' '.join(done.stderr.split())}")
