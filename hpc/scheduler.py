"""What the scheduler says, in one query however many jobs there are: squeue for what is in it, sacct for what was.

Answers are by the names of jobs, which are ours and unique; ids come with them. What nobody knows is absent: that is
neither success nor failure.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass

from hpc.errors import ClusterError

PENDING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
RUNNING = ("RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
BAD_NODE = ("NODE_FAIL", "BOOT_FAIL")
# What a controller says that is busy, restarting or not reached; the request may have been carried out all the same.
AMBIGUOUS = ("timed out", "Unable to contact slurm controller", "Connection refused", "Zero Bytes were transmitted")
ATTEMPTS = 6
LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True)
class TaskState:
    """One job, or one task of an array (index None: the whole of an array that has not been split)."""

    job_id: str
    index: int | None
    state: str  # as SLURM calls it: PENDING, RUNNING, COMPLETED, FAILED, TIMEOUT, OUT_OF_MEMORY, NODE_FAIL, …
    reason: str
    elapsed_s: int
    gpus: int = 0
    restarts: int = 0
    node: str = ""

    @property
    def is_active(self) -> bool:
        return self.state in PENDING + RUNNING and not self.is_stuck

    @property
    def is_stuck(self) -> bool:
        """It waits for what has failed, at a site that leaves such jobs in the queue."""
        return self.state in PENDING and self.reason == "DependencyNeverSatisfied"


States = dict[str, list[TaskState]]  # by the job's name


def require_slurm() -> None:
    if shutil.which("sbatch") is None:
        raise ClusterError(
            "there is no sbatch on this machine; log in to the cluster, use hydra/launcher=local, or start slurm/lab"
        )


def query(names: Iterable[str]) -> States:
    """States of the jobs with these names that squeue knows: those that wait, run, or have just ended."""
    wanted = set(names)
    if not wanted:
        return {}
    fields = "%F|%K|%T|%j|%M|%r|%N"
    command = ["squeue", "--noheader", "--all", "--array", "--states=all", f"--format={fields}"]
    found: States = {}
    for line in ask(command).splitlines():
        job_id, index, state, name, elapsed, reason, node = line.split("|")
        if name in wanted:
            number = int(index) if index.isdigit() else None
            found.setdefault(name, []).append(TaskState(job_id, number, state, reason, seconds(elapsed), node=node))
    return found


def history(job_ids: Iterable[str]) -> dict[str, list[TaskState]] | None:
    """By job id, what accounting remembers, every attempt of a requeued job by itself; None without accounting."""
    ids = sorted(set(job_ids))
    if not ids:
        return {}
    columns = "JobID,State,ElapsedRaw,AllocTRES,NodeList"
    command = ["sacct", "--noheader", "--parsable2", "--allocations", "--duplicates", f"--format={columns}"]
    try:
        text = ask([*command, f"--jobs={','.join(ids)}"], attempts=1)
    except ClusterError:
        return None
    found: dict[str, list[TaskState]] = {}
    for line in text.splitlines():
        job, state, elapsed, tres, node = line.split("|")
        job_id, _, index = job.partition("_")
        gpus = sum(int(part.split("=")[1]) for part in tres.split(",") if part.startswith("gres/gpu="))
        number = int(index) if index.isdigit() else None
        task = TaskState(job_id, number, state.split()[0], state, int(elapsed or 0), gpus, node=node)
        found.setdefault(job_id, []).append(task)
    return found


def cancel(job_ids: Iterable[str]) -> None:
    """Raises ClusterError."""
    ids = list(job_ids)
    if ids:
        ask(["scancel", *ids])


def ask(command: list[str], attempts: int = ATTEMPTS) -> str:
    """The command's output; a controller that is busy is asked again, after growing pauses. Raises ClusterError."""
    for attempt in range(attempts):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout
        if not is_ambiguous(done.stderr) or attempt == attempts - 1:
            raise ClusterError(f"{command[0]}: {' '.join(done.stderr.split()) or f'exit status {done.returncode}'}")
        time.sleep(pause(attempt))
    raise AssertionError


def is_ambiguous(message: str) -> bool:
    return any(part in message for part in AMBIGUOUS)


def pause(attempt: int) -> float:
    """Twice as long every time, and never the same for two who were refused together."""
    return min(LONGEST_PAUSE_S, 2.0**attempt) * random.uniform(0.5, 1.0)


def seconds(elapsed: str) -> int:
    """[days-][hours:]minutes:seconds as squeue writes them."""
    days, _, clock = elapsed.rpartition("-")
    total = 0
    for part in clock.split(":"):
        if not part.isdigit():
            return 0  # INVALID, where a clock was set back
        total = 60 * total + int(part)
    return total + 86400 * int(days or 0)
