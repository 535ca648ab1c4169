"""A job that puts itself back into the queue, where it ran out of time or is preempted.

in:  the attempt that was stopped, and what SLURM says of its job
out: the attempt with what became of its job, noted before SLURM is asked, since SLURM then ends this process too
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace

from hpc.errors import ClusterError, Unanswered, Unwritable
from hpc.jobs.attempts import STOPPED, Attempt, AttemptLog
from hpc.jobs.command import ask, ask_to_change
from hpc.jobs.script import PUT_BACK

OUT_OF_TIME = 124
SAVED = "stopped by a signal, saved"
REQUEUE_ATTEMPTS, REQUEUE_PATIENCE_S = 4, 15.0  # before the time limit


def requeue(attempt: Attempt, log: AttemptLog, requeues_left: int) -> Attempt:
    """Put the job of an attempt that ran out of time back into the queue; of an array, this task only.

    Returns the attempt with what became of its job.
    """
    if "SLURM_JOB_ID" not in os.environ:
        return attempt
    if requeues_left <= 0:
        return replace(attempt, message="out of time, as often as cluster.max_requeues allows")
    requeued = replace(attempt, exit_status=STOPPED, message="out of time, back in the queue", requeued=True)
    try:
        log.write(requeued)  # before scontrol, since SLURM then ends this process too
    except Unwritable as error:  # it would go back for ever
        return replace(attempt, message=f"out of time, and not put back into the queue: {error}")
    if shutil.which("scontrol") is None:  # in a container; the script outside of it has the command
        return replace(requeued, exit_status=PUT_BACK)
    try:
        _put_back()
    except Unanswered as error:
        return replace(requeued, message=f"out of time, maybe back in the queue ({error})")
    except ClusterError as error:
        return replace(attempt, message=f"out of time, and not put back into the queue: {error}")
    return requeued


def was_preempted_instead() -> bool:
    """Whether the signal of the time limit came because the job is preempted, which must not use up `max_requeues`.

    SLURM sends it for that too where the site has set send_user_signal (in 22.05 SlurmctldParameters, later
    PreemptParameters). A controller that does not answer is asked once only, as the time limit is near and the more
    likely reason.
    """
    try:
        return _has_scontrol() and _is_preempted(attempts=1)
    except ClusterError:
        return False


def requeue_if_preempted(attempt: Attempt, log: AttemptLog) -> Attempt:
    """The same as `requeue` for an attempt that was stopped, where its job is preempted."""
    if not _has_scontrol():
        return attempt
    back = replace(attempt, message="preempted, back in the queue")
    try:
        log.write(attempt)  # SLURM may end this process while it waits for an answer
        if not _is_preempted(REQUEUE_ATTEMPTS):
            return attempt
        log.write(back)
        _put_back()
    except (ClusterError, Unwritable) as error:
        return replace(attempt, message=f"{attempt.message}; is it back in the queue? ({error})")
    return back


def _is_preempted(attempts: int) -> bool:
    """Whether SLURM says that this job is preempted, still runs, and may be put back. Raises ClusterError.

    One that was cancelled no longer runs. Without a time of grace SLURM puts a preempted job back by itself.
    """
    command = ["scontrol", "show", "job", "--oneliner", _job()]
    said = dict(re.findall(r"(\w+)=(\S*)", ask(command, attempts, REQUEUE_PATIENCE_S)))
    is_preempted = said.get("PreemptTime", "None") not in ("None", "")
    return is_preempted and said.get("JobState") == "RUNNING" and said.get("Requeue") == "1"


def _has_scontrol() -> bool:
    """Whether this is a job that can ask SLURM about itself. In a container it may lack the command."""
    return "SLURM_JOB_ID" in os.environ and shutil.which("scontrol") is not None


def _job() -> str:
    """This job as scontrol calls it; of an array, this task."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]


def _put_back() -> None:
    """Put this job back into the queue. Raises ClusterError where SLURM refuses, Unanswered where it may have done it.

    SLURM ends a job that it puts back, and sometimes the scontrol that asks for it before that has its answer.
    """
    ask_to_change(["scontrol", "requeue", _job()], REQUEUE_ATTEMPTS, REQUEUE_PATIENCE_S)
