"""What runs on a node: one step of a batch, out of the file that was written before it was submitted.

    python -m hpc BATCH_FOLDER [INDEX]

The first SIGUSR2 (the time limit comes near) or SIGTERM (preempted, cancelled) lets the step save. After SIGUSR2 the
job puts itself back into the queue, at most `max_requeues` times. Exit status 0 means that the step is done, 130 that
it was stopped, 124 that it ran out of time for good.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

from hpc.errors import ClusterError
from hpc.jobs.attempts import Attempt, Diary
from hpc.jobs.graph import Step, identity
from hpc.jobs.queue import Queue
from hpc.jobs.study import Study
from hpc.ranks.distributed import Place, runtime_of_ranks
from hpc.ranks.zero import Zero, alone

PAYLOAD = "payload.pkl"
STOPPED = 130
OUT_OF_TIME = 124
SIGNALS_ARRIVE_WITHIN_S = 2.0


@dataclass(frozen=True)
class Payload:
    """The steps of a batch and how to make what they run on; every field pickles by reference to its module."""

    steps: tuple[Step, ...]
    make_runtime: Callable[[], Any]  # the runtime has a flag `stop` that a signal sets
    interrupted: type[BaseException]  # what a step raises after it saved
    refused: type[BaseException]  # what a step raises where a line for the user says it all
    zero: Zero
    max_requeues: int

    def write(self, folder: Path) -> None:
        (folder / PAYLOAD).write_bytes(pickle.dumps(self))

    @staticmethod
    def read(folder: Path) -> Payload:
        found = pickle.loads((folder / PAYLOAD).read_bytes())  # noqa: S301  (written by the submission beside it)
        assert isinstance(found, Payload)
        return found


def payload_of(study: Study, steps: Sequence[Step], max_requeues: int) -> Payload:
    return Payload(tuple(steps), study.make_runtime, study.interrupted, study.refused, study.zero, max_requeues)


@dataclass
class Signals:
    """What SLURM asked of this process so far."""

    stop: Event = field(default_factory=Event)
    near_limit: bool = False

    def listen(self) -> None:
        for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        self.near_limit = self.near_limit or number == signal.SIGUSR2
        self.stop.set()
        print(f"signal {signal.Signals(number).name}: saving, then stopping", flush=True)


def main() -> None:
    signals = Signals()
    signals.listen()  # before the payload, which loads torch: a signal may come within the first second
    folder = Path(sys.argv[1])
    index = int(sys.argv[2] if len(sys.argv) > 2 else os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    payload, place, diary = Payload.read(folder), Place.of(os.environ), Diary(folder, index)
    if place.rank != 0:
        status, _ = run(payload, index, place, diary, signals)
        sys.exit(0 if status in (STOPPED, OUT_OF_TIME) else status)  # srun would end rank 0, which still has to decide
    diary.begin()
    status, message = 1, ""
    try:
        status, message = run(payload, index, place, diary, signals)
    finally:
        error = sys.exc_info()[1]
        if error is not None:
            message = f"{type(error).__name__}: {' '.join(str(error).split())[:200]} (traceback in its log)"
        ended = replace(diary.attempt, ended=time.time(), exit_status=status, message=message)
        if status == OUT_OF_TIME:
            ended = _put_back(ended, diary, payload.max_requeues - diary.num_requeued)
            print(ended.message, flush=True)
        diary.end(ended)
        if ended.exit_status not in (0, STOPPED):
            _cancel_what_needs(payload.steps[index], folder, ended.message)
    sys.exit(ended.exit_status)


def _cancel_what_needs(step: Step, folder: Path, why: str) -> None:
    """SLURM may do it too, later and without a reason; so nothing is lost where it cannot be asked from here."""
    if "SLURM_JOB_ID" not in os.environ:
        return
    try:
        Queue(folder.parent.parent).cancel_what_needs(identity(step), folder.name, why)
    except (ClusterError, OSError) as error:
        print(f"could not cancel what hangs on this step: {error}", file=sys.stderr, flush=True)


def run(payload: Payload, index: int, place: Place, diary: Diary, signals: Signals) -> tuple[int, str]:
    """Run the step, on every rank; returns the exit status, and why it is not 0."""
    step = payload.steps[index]
    print(f"{identity(step)} {step.label} on {os.uname().nodename}, {time.strftime('%Y-%m-%d %H:%M:%S')}", flush=True)

    def end_without(message: str) -> None:
        if diary.note_lost(message):
            _cancel_what_needs(step, diary.folder, message)

    try:
        zero = payload.zero if step.shared else alone(payload.zero)
        with runtime_of_ranks(payload.make_runtime, zero, place, signals.stop, end_without) as runtime:
            step.run(runtime)
    except payload.interrupted:
        if place.size > 1:
            time.sleep(SIGNALS_ARRIVE_WITHIN_S)  # another rank may have been told first, and for all of them
        return (OUT_OF_TIME, "out of time") if signals.near_limit else (STOPPED, "stopped by a signal, saved")
    except (payload.refused, ClusterError) as error:
        message = " ".join(str(error).split())
        print(f"error: {message}", file=sys.stderr, flush=True)
        return int(getattr(error, "exit_status", 1)), message
    return 0, ""


def _put_back(ended: Attempt, diary: Diary, requeues_left: int) -> Attempt:
    """The attempt that ran out of time, with what became of its job. An array's other tasks stay where they are."""
    job, array = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_ARRAY_JOB_ID")
    if job is None:
        return ended
    if requeues_left <= 0:
        return replace(ended, message="out of time, as often as cluster.max_requeues allows")
    requeued = replace(ended, exit_status=STOPPED, message="out of time, back in the queue", requeued=True)
    diary.note(requeued)  # first, since SLURM ends this process too
    name = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else job
    done = subprocess.run(["scontrol", "requeue", name], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return requeued
    return replace(ended, message=f"out of time, and not put back into the queue: {' '.join(done.stderr.split())}")
