"""What the scheduler says, in one query however many jobs there are: squeue for what is in it, sacct for what was.

Answers are by the names of jobs, which are ours and unique; ids come with them. What nobody knows is absent: that is
neither success nor failure.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hpc.errors import ClusterError, Unanswered

PENDING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
RUNNING = ("RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
BAD_NODE = ("NODE_FAIL", "BOOT_FAIL")
# What a controller says that is busy, restarting or not reached; the request may have been carried out all the same.
AMBIGUOUS = (
    "timed out",
    "Unable to contact slurm controller",
    "Connection re",  # refused, reset
    "Zero Bytes were transmitted",
    "Message send failure",
    "Message receive failure",
    "Communication connection failure",
    "Communication shutdown failure",
    "not connected",
    "Resource temporarily unavailable",
)
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
    """States of the jobs with these names that squeue knows: those that wait, run, or have just ended.

    Raises ClusterError where squeue is not there or does not answer: then nothing is known of any job.
    """
    wanted = set(names)
    if not wanted:
        return {}
    fields = "%F|%K|%T|%M|%r|%N|%j"  # the name last, since strangers' names may hold anything
    command = ["squeue", "--noheader", "--all", "--array", "--states=all", f"--format={fields}"]
    found: States = {}
    for line in ask(command).splitlines():
        job_id, index, state, elapsed, reason, node, name = line.split("|", 6)
        if name in wanted:
            number = int(index) if index.isdigit() else None
            found.setdefault(name, []).append(TaskState(job_id, number, state, reason, seconds(elapsed), node=node))
    return found


def history(job_ids: Iterable[str]) -> States:
    """What accounting remembers, every attempt of a requeued job by itself; nothing without accounting."""
    ids = sorted(set(job_ids))
    if not ids or shutil.which("sacct") is None:
        return {}
    columns = "JobID,State,ElapsedRaw,AllocTRES,NodeList,JobName"  # numbers may have been given before; names are ours
    command = ["sacct", "--noheader", "--parsable2", "--allocations", "--duplicates", f"--format={columns}"]
    try:
        text = ask([*command, f"--jobs={','.join(ids)}"], attempts=1)
    except ClusterError:
        return {}
    found: States = {}
    for line in text.splitlines():
        job, state, elapsed, tres, node, name = line.split("|", 5)
        job_id, _, indices = job.partition("_")
        gpus = sum(int(part.split("=")[1]) for part in tres.split(",") if part.startswith("gres/gpu="))
        for index in indices_of(indices):
            task = TaskState(job_id, index, state.split()[0], state, int(elapsed or 0), gpus, node=node)
            found.setdefault(name, []).append(task)
    return found


def indices_of(text: str) -> Iterator[int | None]:
    """Of an array's tasks, as sacct writes them: 3, or [0,2-4%2] for those that have not begun; "" is no array."""
    if not text:
        yield None
    for part in re.findall(r"\d+(?:-\d+)?", text.partition("%")[0]):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def nodes() -> set[str]:
    """The names of all nodes."""
    return set(ask(["sinfo", "--noheader", "--Node", "--format=%N"]).split())


def cancel(job_ids: Iterable[str]) -> list[str]:
    """Take jobs out of the queue; returns those that belong to others, who alone may do it. Raises ClusterError."""
    ids = list(job_ids)
    if not ids:
        return []
    try:
        ask(["scancel", *ids])
    except ClusterError as error:
        refused = re.findall(r"job id (\S+): Access/permission denied", str(error))
        if not refused or str(error).count("error:") > len(refused):
            raise
        return refused
    return []


def ask(command: list[str], attempts: int = ATTEMPTS) -> str:
    """The command's output; a controller that is busy is asked again, after growing pauses. Raises ClusterError."""
    if shutil.which(command[0]) is None:
        raise ClusterError(f"there is no {command[0]} on this machine; ask where SLURM's commands are")
    for attempt in range(attempts):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout
        message = f"{command[0]}: {' '.join(done.stderr.split()) or f'exit status {done.returncode}'}"
        if not is_ambiguous(done.stderr):
            raise ClusterError(message)
        if attempt < attempts - 1:
            time.sleep(pause(attempt))
    raise Unanswered(message)


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
