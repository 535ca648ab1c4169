"""What runs on a node: one step of a batch.

    python -m hpc PROGRAM BATCH_FOLDER sha256=DIGEST       a job; its index is that of SLURM's array
    python -m hpc PROGRAM BATCH_FOLDER INDEX               a process of one machine

in:  payload.json in the batch's folder, written before the batch was submitted, and the module that knows its steps
out: the step's result in its own folder; notes of the attempt in the batch's folder; an exit status

The first SIGUSR2 (the time limit is near) or SIGTERM (preempted, cancelled) asks the step to save and stop. After
SIGUSR2 the job puts itself back into the queue, at most `max_requeues` times. A job that is preempted with a time of
grace puts itself back every time, since SLURM counts one that ends within that time as failed. It may have got either
signal. A second SIGTERM ends it at once.
The exit status is 0 if the step is done, 130 if it was stopped, 124 if it ran out of time for good, 75 if its script
shall put the job back, 143 after a second SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from hpc.errors import ClusterError, Unwritable, one_line, unexpected
from hpc.jobs.attempts import STOPPED, AttemptLog
from hpc.jobs.graph import identity
from hpc.jobs.inspection import Station
from hpc.jobs.payload import Payload, program_named
from hpc.jobs.queue import RECORD, Queue
from hpc.jobs.requeue import OUT_OF_TIME, SAVED, requeue, requeue_if_preempted, was_preempted_instead
from hpc.jobs.script import DIGEST, PUT_BACK
from hpc.jobs.site_check import SiteCheck
from hpc.ranks.distributed import leave, runtime_of_ranks
from hpc.ranks.placement import Placement, node_here
from hpc.ranks.signals import end_at_once, hear
from hpc.ranks.zero import among, single_process

SIGNALS_ARRIVE_WITHIN_S = 2.0


class Stopped(Exception):
    """A site check saw a signal."""


class Checking:
    """In the place of the program where a site check runs: the program may be what cannot be imported there."""

    interrupted, refused = Stopped, ClusterError


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


@dataclass(frozen=True)
class Task:
    """What this process has to do."""

    program: str  # the module that knows the steps
    folder: Path  # of the batch
    index: int  # of the step in it
    digest: str | None  # of the payload, where the command says it
    placement: Placement

    @staticmethod
    def from_command() -> Task:
        """From the words of the command and the variables of the job."""
        program, folder, word = sys.argv[1:]
        placement = Placement.from_environment(os.environ)
        if word.startswith(DIGEST):
            index = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
            return Task(program, Path(folder), index, word.removeprefix(DIGEST), placement)
        return Task(program, Path(folder), int(word), None, placement)


@dataclass(frozen=True)
class Outcome:
    """How it ended."""

    status: int
    message: str = ""  # the reason if the status is not 0
    max_requeues: int = 0


def main() -> None:
    """The command: runs one step on this rank, and exits with its status."""
    signals = Signals()
    signals.listen()  # before the payload, which may import much: a signal may arrive within the first second
    task = Task.from_command()
    try:
        log = AttemptLog(task.folder, task.index)
        if task.placement.rank == 0:
            log.begin()
    except (ClusterError, OSError) as problem:  # notes that are broken, a full disk, a stale handle
        sys.exit(_refused(problem).status)
    if task.placement.rank != 0:
        status = run(task, log, signals).status
        # with another status srun would end rank 0, which still has to put the job back into the queue
        leave(0 if status in (STOPPED, OUT_OF_TIME) else status)
    try:
        outcome = run(task, log, signals)
    except BaseException as error:
        _end(task, log, Outcome(1, unexpected(error)))
        raise
    status = _end(task, log, outcome)
    if task.placement.size > 1:
        leave(status)
    sys.exit(status)


def run(task: Task, log: AttemptLog, signals: Signals) -> Outcome:
    """Run the step; every rank of the job calls this."""
    try:
        payload = Payload.read(task.folder, task.digest)
        program: Any = program_named(task.program) if payload.check is None else Checking
        step = payload.check or payload.step(program, task.index)
    except (ClusterError, OSError) as error:
        return _refused(error)
    print(f"{identity(step)} {step.label} on {node_here()}, {time.strftime('%Y-%m-%d %H:%M:%S')}", flush=True)

    def when_lost(message: str) -> None:
        if log.write_lost(message):
            _cancel_dependants(task)

    try:
        if isinstance(step, SiteCheck):  # whether its ranks can meet is what it has to find out
            step.run(Station(task.placement, task.folder, signals.stop, Stopped, task.program))
        else:
            zero = among(payload.zero, task.placement.size) if step.shared else single_process(payload.zero)
            make_runtime = partial(program.runtime_from, payload.runtime)
            with runtime_of_ranks(make_runtime, zero, task.placement, signals.stop, when_lost) as runtime:
                step.run(runtime)
    except program.interrupted:
        if task.placement.size > 1:
            time.sleep(SIGNALS_ARRIVE_WITHIN_S)  # all ranks stop together; this one's own signal may still be under way
        if signals.near_limit:
            return Outcome(OUT_OF_TIME, "out of time", payload.max_requeues)
        return Outcome(STOPPED, SAVED)
    except (program.refused, ClusterError, OSError) as error:
        return _refused(error)
    return Outcome(0)


def _refused(error: BaseException) -> Outcome:
    message = one_line(error)
    print(f"error: {message}", file=sys.stderr, flush=True)
    return Outcome(int(getattr(error, "exit_status", 1)), message)


def _end(task: Task, log: AttemptLog, outcome: Outcome) -> int:
    """Write down how the attempt ended; where it ran out of time, put the job back. Returns the exit status."""
    attempt = replace(log.attempt, ended=time.time(), exit_status=outcome.status, message=outcome.message)
    if outcome.status == OUT_OF_TIME and was_preempted_instead():
        attempt = replace(attempt, exit_status=STOPPED, message=SAVED)
    if attempt.exit_status == OUT_OF_TIME:
        attempt = requeue(attempt, log, outcome.max_requeues - log.num_requeued)
    elif attempt.exit_status == STOPPED:
        attempt = requeue_if_preempted(attempt, log)
    if attempt.message != outcome.message:
        print(attempt.message, flush=True)
    is_saved = attempt.exit_status in (STOPPED, PUT_BACK)
    try:
        log.end(replace(attempt, exit_status=STOPPED) if is_saved else attempt)
    except Unwritable as error:  # what the step has done is done all the same
        print(f"how this attempt ended is noted nowhere: {error}", file=sys.stderr, flush=True)
    if attempt.exit_status != 0 and not is_saved:
        _cancel_dependants(task)
    return int(attempt.exit_status or 0)


def _cancel_dependants(task: Task) -> None:
    """Cancel the jobs that wait for this step, and note its name as the cause.

    SLURM may cancel them too, later and without a reason. So it does no harm if SLURM cannot be reached from this node.
    """
    if "SLURM_JOB_ID" not in os.environ or not (task.folder / RECORD).exists():  # a local step has no record
        return
    try:
        Queue(task.folder.parent.parent).cancel_dependants(task.folder.name, task.index)
    except (ClusterError, OSError) as error:
        print(f"could not cancel the jobs that wait for this step: {error}", file=sys.stderr, flush=True)
