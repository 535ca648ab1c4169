"""What runs on a node: one step of a batch.

    python -m hpc BATCH_FOLDER [INDEX]

in:  payload.pkl in the batch's folder, which was written before the batch was submitted
out: the step's result in its own folder; notes of the attempt in the batch's folder; an exit status

The first SIGUSR2 (the time limit is near) or SIGTERM (preempted, cancelled) asks the step to save and stop. After
SIGUSR2 the job puts itself back into the queue, at most `max_requeues` times. A second SIGTERM ends it at once.
The exit status is 0 if the step is done, 130 if it was stopped, 124 if it ran out of time for good, 75 if its script
shall put the job back, 143 after a second SIGTERM.
"""

from __future__ import annotations

import os
import pickle
import shutil
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
from hpc.jobs.attempts import STOPPED, Attempt, AttemptLog
from hpc.jobs.graph import Step, identity
from hpc.jobs.inspection import Station
from hpc.jobs.queue import Queue
from hpc.jobs.script import PUT_BACK
from hpc.jobs.site_check import SiteCheck
from hpc.jobs.sweep import Sweep
from hpc.ranks.distributed import runtime_of_ranks
from hpc.ranks.placement import Placement
from hpc.ranks.signals import end_at_once, hear
from hpc.ranks.zero import Zero, among, single_process

PAYLOAD = "payload.pkl"
OUT_OF_TIME = 124
SIGNALS_ARRIVE_WITHIN_S = 2.0


class Stopped(Exception):
    """A site check saw a signal."""


@dataclass(frozen=True)
class Payload:
    """The steps of a batch and what they need to run; functions and classes are pickled by reference."""

    steps: tuple[Step, ...]
    make_runtime: Callable[[], Any]
    interrupted: type[BaseException]
    refused: type[BaseException]
    zero: Zero
    max_requeues: int

    @staticmethod
    def of(sweep: Sweep, steps: Sequence[Step], max_requeues: int) -> Payload:
        """That of a batch of these steps."""
        return Payload(tuple(steps), sweep.make_runtime, sweep.interrupted, sweep.refused, sweep.zero, max_requeues)

    @staticmethod
    def of_check(check: SiteCheck, zero: Zero) -> Payload:
        """That of a site check. It can be read where the code of the other steps cannot be imported."""
        return Payload((check,), dict, Stopped, ClusterError, single_process(zero), max_requeues=0)

    def write(self, folder: Path) -> None:
        """Into the batch's folder."""
        (folder / PAYLOAD).write_bytes(pickle.dumps(self))

    @staticmethod
    def read(folder: Path) -> Payload:
        """From the batch's folder."""
        payload = pickle.loads((folder / PAYLOAD).read_bytes())  # noqa: S301  (the submission wrote it)
        assert isinstance(payload, Payload)
        return payload


@dataclass
class Signals:
    """What SLURM has asked of this process so far."""

    stop: Event = field(default_factory=Event)
    near_limit: bool = False
    asked_to_end: float | None = None  # when, on the monotonic clock

    def listen(self) -> None:
        """From now on, SIGUSR2, SIGTERM and SIGINT set `stop`, and another SIGTERM or SIGINT ends the process."""
        hear(self._handle, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)

    def _handle(self, signal_number: int) -> None:
        if signal_number == signal.SIGUSR2:
            self.near_limit = True
        elif self.asked_to_end is None:
            self.asked_to_end = time.monotonic()
        elif time.monotonic() - self.asked_to_end > SIGNALS_ARRIVE_WITHIN_S:  # srun passes on what its tasks have got
            end_at_once(signal_number)
        self.stop.set()
        print(f"signal {signal.Signals(signal_number).name}: saving, then stopping", flush=True)


def main() -> None:
    """The command: runs one step on this rank, and exits with its status."""
    signals = Signals()
    signals.listen()  # before the payload, which imports torch: a signal may arrive within the first second
    folder = Path(sys.argv[1])
    index = int(sys.argv[2] if len(sys.argv) > 2 else os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    payload, placement, log = Payload.read(folder), Placement.from_environment(os.environ), AttemptLog(folder, index)
    if placement.rank != 0:
        status, _ = run(payload, index, placement, log, signals)
        # with another status srun would end rank 0, which still has to put the job back into the queue
        sys.exit(0 if status in (STOPPED, OUT_OF_TIME) else status)
    log.begin()
    status, message = 1, ""
    try:
        status, message = run(payload, index, placement, log, signals)
    finally:
        error = sys.exc_info()[1]
        if error is not None:
            message = f"{type(error).__name__}: {' '.join(str(error).split())[:200]} (traceback in its log)"
        attempt = replace(log.attempt, ended=time.time(), exit_status=status, message=message)
        if status == OUT_OF_TIME:
            attempt = _requeue(attempt, log, payload.max_requeues - log.num_requeued)
            print(attempt.message, flush=True)
        is_saved = attempt.exit_status in (STOPPED, PUT_BACK)
        log.end(replace(attempt, exit_status=STOPPED) if is_saved else attempt)
        if attempt.exit_status != 0 and not is_saved:
            _cancel_dependants(payload.steps[index], folder)
    sys.exit(attempt.exit_status)


def run(payload: Payload, index: int, placement: Placement, log: AttemptLog, signals: Signals) -> tuple[int, str]:
    """Run the step; every rank of the job calls this. Returns the exit status, and the reason if it is not 0."""
    step = payload.steps[index]
    print(f"{identity(step)} {step.label} on {os.uname().nodename}, {time.strftime('%Y-%m-%d %H:%M:%S')}", flush=True)

    def when_lost(message: str) -> None:
        if log.write_lost(message):
            _cancel_dependants(step, log.folder)

    try:
        if isinstance(step, SiteCheck):  # whether its ranks can meet is what it has to find out
            step.run(Station(placement, log.folder, signals.stop, payload.interrupted))
        else:
            zero = among(payload.zero, placement.size) if step.shared else single_process(payload.zero)
            with runtime_of_ranks(payload.make_runtime, zero, placement, signals.stop, when_lost) as runtime:
                step.run(runtime)
    except payload.interrupted:
        if placement.size > 1:
            time.sleep(SIGNALS_ARRIVE_WITHIN_S)  # all ranks stop together; this one's own signal may still be under way
        return (OUT_OF_TIME, "out of time") if signals.near_limit else (STOPPED, "stopped by a signal, saved")
    except (payload.refused, ClusterError) as error:
        message = " ".join(str(error).split())
        print(f"error: {message}", file=sys.stderr, flush=True)
        return int(getattr(error, "exit_status", 1)), message
    return 0, ""


def _cancel_dependants(step: Step, folder: Path) -> None:
    """Cancel the jobs that wait for this step, and note its name as the cause.

    SLURM may cancel them too, later and without a reason. So it does no harm if SLURM cannot be reached from this node.
    """
    if "SLURM_JOB_ID" not in os.environ:
        return
    try:
        Queue(folder.parent.parent).cancel_dependants(identity(step), folder.name)
    except (ClusterError, OSError) as error:
        print(f"could not cancel the jobs that wait for this step: {error}", file=sys.stderr, flush=True)


def _requeue(attempt: Attempt, log: AttemptLog, requeues_left: int) -> Attempt:
    """Put the job of an attempt that ran out of time back into the queue; of an array, this task only.

    Returns the attempt with what became of its job.
    """
    job, array = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_ARRAY_JOB_ID")
    if job is None:
        return attempt
    if requeues_left <= 0:
        return replace(attempt, message="out of time, as often as cluster.max_requeues allows")
    requeued = replace(attempt, exit_status=STOPPED, message="out of time, back in the queue", requeued=True)
    log.write(requeued)  # before scontrol, since SLURM then ends this process too
    if shutil.which("scontrol") is None:  # in a container; the script outside of it has the command
        return replace(requeued, exit_status=PUT_BACK)
    name = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else job
    process = subprocess.run(
        ["scontrol", "requeue", name], capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if process.returncode == 0:
        return requeued
    return replace(attempt, message=f"out of time, and not put back into the queue: {' '.join(process.stderr.split())}")
