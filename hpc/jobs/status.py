"""The progress of a sweep: what is done, runs, waits, has failed and is missing.

in:  the manifest, the records under its root, one squeue and one sacct; where they do not answer, files alone
out: an Overview; a series of them while the sweep goes on; or its jobs taken out of the queue
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hpc.errors import Unanswered
from hpc.jobs import local_run, scheduler
from hpc.jobs.answer import Answer, answer_now
from hpc.jobs.attempts import STOPPED
from hpc.jobs.diagnosis import NEEDS_FAILED, NEVER_RAN, state_of
from hpc.jobs.local_run import LocalRun
from hpc.jobs.queue import Queue, Record, states_of
from hpc.jobs.reconcile import in_flight
from hpc.jobs.script import log_path
from hpc.jobs.site_check import KIND as CHECK
from hpc.jobs.state import State
from hpc.jobs.sweep import MANIFEST, Manifest, ManifestStep
from hpc.jobs.view import QueueView

NEEDS = "needs "  # then the identity of a step; hpc.jobs.queue notes it


@dataclass(frozen=True)
class StepStatus:
    """One step of an overview."""

    identity: str
    kind: str
    label: str
    state: State
    reason: str
    elapsed_s: float  # of all attempts
    gpu_hours: float  # of all attempts
    wasted_gpu_hours: float  # of attempts that ended with the step neither done nor saved
    job: str
    log: str
    cause: str = ""  # the failed step that this one needs, directly or not; empty where it failed by itself


@dataclass(frozen=True)
class Overview:
    """A sweep at one moment."""

    folder: Path
    command: str  # which submitted it
    steps: tuple[StepStatus, ...]
    stuck: tuple[str, ...]  # ids of jobs that wait for a failed one, and would wait for ever
    as_of: float | None  # when the scheduler answered, in seconds since the epoch; None: it never did
    silence: str  # why it does not answer now; empty where it does

    @staticmethod
    def of(folder: Path) -> Overview:
        """In a few seconds at most, whether SLURM answers or not. Raises ClusterError if `folder` has no manifest."""
        manifest = Manifest.read(folder)
        queue = Queue(Path(manifest.root))
        by_step: dict[str, list[Record]] = {step.identity: [] for step in manifest.steps}
        for record in queue.records():
            for step in record.steps:
                by_step.setdefault(step, []).append(record)
        answer = _answer_on(manifest.steps, by_step, queue)
        newest = (by_step[step.identity][-1] for step in manifest.steps if by_step[step.identity])
        stuck = {
            str(record.job_id)
            for record in {record.name: record for record in newest}.values()
            if record.job_id
            and not answer.silence
            and any(task.is_stuck for task in record.states(answer.known).values())
        }
        view = QueueView(queue, answer)
        local = LocalRun.of(queue, manifest.steps)
        steps = [
            _status(step, records, view) if (records := by_step[step.identity]) else _local(step, local)
            for step in manifest.steps
        ]
        steps = _with_causes(manifest.steps, steps)
        return Overview(folder, manifest.command, tuple(steps), tuple(sorted(stuck)), answer.as_of, answer.silence)

    @property
    def counts(self) -> Counter[State]:
        """How many steps are in each state."""
        return Counter(step.state for step in self.steps)

    @property
    def is_over(self) -> bool:
        """Nothing waits or runs, and either the scheduler has said so, or the last step is done."""
        is_known = not self.silence or self.steps[-1].state == State.DONE
        return is_known and not (self.counts[State.PENDING] or self.counts[State.RUNNING])

    def line(self) -> str:
        """Such as "5 done, 1 running"."""
        counts = ", ".join(f"{count} {state}" for state, count in sorted(self.counts.items()))
        return f"{counts}; the scheduler does not answer" if self.silence else counts

    def as_json(self) -> str:
        """For other programs: every field, `steps` as a list."""
        return json.dumps(asdict(self) | {"folder": str(self.folder)}, indent=1)


def watch(folder: Path, pause_s: float, longest_pause_s: float | None = None) -> Iterator[Overview]:
    """One overview after the other until the sweep is over; the pauses grow while nothing changes.

    A marker may take a moment to become visible on another machine. So a sweep whose last step does not seem done is
    looked at twice before it counts as over. Where SLURM does not answer, it is asked again.
    """
    longest_pause_s = longest_pause_s or 12 * pause_s
    pause, before, was_over = pause_s, "", False
    while True:
        overview = Overview.of(folder)
        yield overview
        if overview.is_over and (was_over or overview.steps[-1].state == State.DONE):
            return
        was_over = overview.is_over
        if overview.line() != before:
            pause, before = pause_s, overview.line()
        time.sleep(pause)
        pause = min(longest_pause_s, 1.5 * pause)


@dataclass(frozen=True)
class Cancelled:
    """The identities of a sweep's steps that waited or ran when it was cancelled."""

    taken_out: list[str]
    shared: list[str]  # another sweep beside it waits for them, so they stay
    foreign: list[str]  # submitted by other accounts, so they stay


def cancel(folder: Path) -> Cancelled:
    """Take what waits or runs for a sweep out of the queue.

    Raises ClusterError as Overview.of does, Unanswered if SLURM does not answer.
    """
    queue = Queue(Path(Manifest.read(folder).root))
    with queue.locked():
        records = queue.records()
        if not all(record.job_id for record in records):  # a submission was interrupted after SLURM had taken a job
            records = queue.settle(states_of(records))
        overview = Overview.of(folder)
        if overview.silence:
            raise Unanswered(f"{overview.silence}; nothing was cancelled, try again when it answers")
        submitted = {step for record in records for step in record.steps}
        shared = _needed_beside(folder.absolute(), queue)
        in_queue = [step for step in overview.steps if step.identity in submitted]  # a local process ends with its own
        active = {step.identity: step.job for step in in_queue if step.state in (State.PENDING, State.RUNNING)}
        exclusive = {step: job for step, job in active.items() if step not in shared}
        refused = ["", *scheduler.cancel([*filter(None, exclusive.values()), *overview.stuck])]
    return Cancelled(
        taken_out=[step for step, job in exclusive.items() if job not in refused],
        shared=[step for step in active if step in shared],
        foreign=[step for step, job in exclusive.items() if job in refused],
    )


def _needed_beside(folder: Path, queue: Queue) -> set[str]:
    """The steps of all other sweeps beside this one whose last step is in flight."""
    records = queue.records()
    flying = in_flight(queue, records, states_of(records))
    others = [Manifest.read(path.parent) for path in folder.parent.glob(f"*/{MANIFEST}") if path.parent != folder]
    return {step.identity for sweep in others if sweep.steps[-1].identity in flying for step in sweep.steps}


def _answer_on(steps: Sequence[ManifestStep], by_step: dict[str, list[Record]], queue: Queue) -> Answer:
    """What squeue says of the jobs of steps that are not done, and accounting of the newest of each step."""
    of_steps = [by_step[step.identity] for step in steps if by_step[step.identity] and not step.is_done]
    if not of_steps:
        return Answer({}, {}, time.time())
    records = {record.name: record for records in of_steps for record in records}
    return answer_now(queue, list(records.values()), [records[-1].job_id for records in of_steps if records[-1].job_id])


def _with_causes(steps: Sequence[ManifestStep], states: Sequence[StepStatus]) -> list[StepStatus]:
    """The same states in order, where those of failed steps say which other failed step they need.

    A site check comes first, and whatever was not begun needs it.
    """
    causes: dict[str, str] = {}  # by failed step: the first cause
    checks: list[str] = []  # that failed
    explained = []
    for step, status in zip(steps, states, strict=True):
        is_mute = status.reason in (NEVER_RAN, NEEDS_FAILED) or status.reason.startswith(NEEDS)
        needs = [status.reason.removeprefix(NEEDS), *step.needs, *checks] if is_mute else step.needs
        cause = next((causes[needed] for needed in needs if needed in causes), "")
        if status.state == State.FAILED:
            causes[step.identity] = cause or step.identity
            checks += [step.identity] if step.kind == CHECK else []
            if cause:
                status = replace(status, cause=cause, reason=f"{NEEDS}{cause}" if is_mute else status.reason)
        explained.append(status)
    return explained


def _local(step: ManifestStep, run: LocalRun) -> StepStatus:
    """Of a step that was never submitted: maybe it ran on one machine."""
    attempts = run.attempts(step.identity)
    state, reason = (State.DONE, "") if step.is_done else local_run.state_of(attempts)
    elapsed = sum(attempt.seconds for attempt in attempts)
    log = str(run.log(step.identity)) if attempts else ""
    return StepStatus(step.identity, step.kind, step.label, state, reason, elapsed, 0.0, 0.0, "", log)


def _status(step: ManifestStep, records: Sequence[Record], view: QueueView) -> StepStatus:
    state, reason = state_of(step, records, view)
    elapsed = gpu_hours = wasted = 0.0
    for record in records:
        attempts = view.attempts(record, step.identity)
        for attempt in attempts:
            is_running = state == State.RUNNING and record is records[-1] and attempt is attempts[-1]
            is_timed = is_running and not view.answer.silence
            seconds = max(0.0, time.time() - attempt.started) if is_timed else attempt.seconds
            elapsed += seconds
            gpu_hours += seconds / 3600 * record.gpus
            wasted += seconds / 3600 * record.gpus * (attempt.exit_status not in (0, STOPPED) and not is_running)
    newest = records[-1]
    index = view.index(newest, step.identity)
    job = newest.job_id or ""
    if job and newest.is_array:
        job = f"{job}_{index}"
    log = str(log_path(newest, view.queue.batch_folder(newest.name), index)) if job else ""
    return StepStatus(step.identity, step.kind, step.label, state, reason, elapsed, gpu_hours, wasted, job, log)
