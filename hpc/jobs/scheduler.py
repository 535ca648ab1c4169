"""SLURM's commands: squeue for the jobs that wait or run, sacct for those that have ended.

in:  names or ids of jobs; one call of a command asks about all of them
out: what SLURM says of each, by the job's name, which is ours and unique

A job that SLURM does not know is absent from the answer. That means neither success nor failure.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hpc.errors import ClusterError, Unanswered
from hpc.jobs.command import ATTEMPTS, LONGEST_ANSWER_S, ask, cluster

PENDING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD", "EXPEDITING")
RUNNING = (
    *("RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"),
    "POWER_UP_NODE",  # since SLURM 20.11: its node is being started
)
REVOKED = "REVOKED"  # of a federation: another cluster has taken the job, which is in the list once more
NODE_FAILURE = ("NODE_FAIL", "BOOT_FAIL")
MOST_IDS = 1000  # in a word of a command


@dataclass(frozen=True)
class TaskState:
    """A job, or one task of an array. An array whose tasks all still wait may be one TaskState, with index None."""

    job_id: str
    index: int | None
    state: str  # in SLURM's words: PENDING, RUNNING, COMPLETED, FAILED, TIMEOUT, OUT_OF_MEMORY, NODE_FAIL, …
    reason: str
    elapsed_s: int
    gpus: int = 0
    node: str = ""

    @property
    def is_active(self) -> bool:
        """It runs, or waits and may still run."""
        return self.may_go_on and not self.is_stuck

    @property
    def may_go_on(self) -> bool:
        """By its state alone it has not ended."""
        return self.state in PENDING + RUNNING

    @property
    def is_stuck(self) -> bool:
        """It waits for a job that has failed. Some sites leave such jobs in the queue for ever."""
        return self.state in PENDING and self.reason == "DependencyNeverSatisfied"


States = dict[str, list[TaskState]]  # by the job's name


def require_slurm() -> None:
    """Raises ClusterError if jobs cannot be submitted from this machine."""
    if shutil.which("sbatch") is None:
        raise ClusterError(
            "there is no sbatch on this machine; log in to the cluster, use hydra/launcher=local, or start slurm/lab"
        )


def query(
    names: Iterable[str],
    users: Iterable[str] = ("",),
    attempts: int = ATTEMPTS,
    patience_s: float = LONGEST_ANSWER_S,
) -> States:
    """The states of jobs that wait, run or have just ended. An attempt lasts `patience_s` at most.

    `users` are those whose jobs they are, as `user_of` has given them; where one is unknown (""), the jobs of the whole
    site are listed. A single user is the only limit that squeue passes on to the controller: it filters several job ids
    or names itself, after it has got all jobs of the site.

    Raises ClusterError if squeue is missing or does not answer; then nothing is known of any job.
    """
    wanted, asked = set(names), set(users)
    if not wanted:
        return {}
    fields = "%F|%K|%T|%M|%r|%N|%j"  # the name last: a job of somebody else may have any name
    command = ["squeue", "--noheader", "--all", "--array", "--states=all", f"--format={fields}"]
    commands = [command] if "" in asked else [[*command, f"--user={user}"] for user in sorted(asked)]
    states: States = {}
    for line in "".join(ask(words, attempts, patience_s) for words in commands).splitlines():
        if line.count("|") < 6:
            continue  # with SLURM_CLUSTERS some versions write the cluster's name above its jobs
        job_id, index, state, elapsed, reason, node, name = line.split("|", 6)
        if name in wanted and state != REVOKED:
            task = int(index) if index.isdigit() else None
            states.setdefault(name, []).append(TaskState(job_id, task, state, reason, seconds(elapsed), node=node))
    return states


def user_of(job_id: str, patience_s: float = 15.0) -> str:
    """The number of the user whose job this is, if squeue lists that user's jobs here; else "".

    It is SLURM's number, not this process's: in the user namespace of a container they differ, and squeue may not be
    able to look it up there.
    """
    command = ["squeue", "--noheader", "--all", "--states=all"]
    try:
        printed = ask([*command, f"--jobs={job_id}", "--format=%U"], 1, patience_s)
        users = set(re.findall(r"^\d+$", printed, flags=re.MULTILINE))
        user = users.pop() if len(users) == 1 else ""
        listed = ask([*command, f"--user={user}", "--format=%F"], 1, patience_s).split() if user else []
    except ClusterError:
        return ""
    return user if job_id in listed else ""


def history(job_ids: Iterable[str], patience_s: float = LONGEST_ANSWER_S) -> States:
    """The accounting records of ended jobs, one for each attempt of a requeued job.

    Empty where there is no accounting, or none that answers within `patience_s`.
    """
    ids = sorted(set(job_ids))
    if not ids or shutil.which("sacct") is None:
        return {}
    columns = "JobID,State,ElapsedRaw,AllocTRES,NodeList,JobName"  # SLURM reuses ids, so jobs are told apart by name
    command = ["sacct", "--noheader", "--parsable2", "--allocations", "--duplicates", f"--format={columns}"]
    if cluster():  # which sacct alone does not read
        command.append(f"--clusters={cluster()}")
    lines: list[str] = []
    try:
        for some in _parts(ids):
            lines += ask([*command, f"--jobs={','.join(some)}"], 1, patience_s).splitlines()
    except ClusterError:
        return {}
    states: States = {}
    for line in lines:
        if line.count("|") < 5:
            continue  # what a site's wrapper prints
        job, state, elapsed, tres, node, name = line.split("|", 5)
        job_id, _, indices = job.partition("_")
        gpus = sum(int(part.split("=")[1]) for part in tres.split(",") if part.startswith("gres/gpu="))
        for index in indices_of(indices):
            task = TaskState(job_id, index, state.split()[0], state, int(elapsed or 0), gpus, node=node)
            states.setdefault(name, []).append(task)
    return states


def indices_of(text: str) -> Iterator[int | None]:
    """The indices of an array's tasks as sacct writes them: 3, or [0,2-4%2] before they begin. "" is no array: None."""
    if not text:
        yield None
    for part in re.findall(r"\d+(?:-\d+)?", text.partition("%")[0]):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def nodes() -> set[str]:
    """The names of all nodes of the site. Raises ClusterError."""
    return set(ask(["sinfo", "--noheader", "--Node", "--format=%N"]).split())


def cancel(job_ids: Iterable[str], attempts: int = ATTEMPTS, patience_s: float = LONGEST_ANSWER_S) -> list[str]:
    """Take jobs out of the queue. Returns the ids of those that belong to other accounts and stay.

    Jobs that have ended are no error. Raises ClusterError.
    """
    ids, refused = list(job_ids), list[str]()
    for some in _parts(ids):
        try:
            ask(["scancel", "--", *some], attempts, patience_s)
        except Unanswered:
            raise
        except ClusterError as error:
            of_others = re.findall(r"job id (\S+): Access/permission denied", str(error))
            over = re.findall(r"Invalid job id|already completing or completed", str(error))
            if str(error).count("error:") > len(of_others) + len(over):
                raise
            refused += of_others
    return refused


def _parts(ids: list[str]) -> Iterator[list[str]]:
    """As many ids at a time as fit into the words of a command."""
    return (ids[first : first + MOST_IDS] for first in range(0, len(ids), MOST_IDS))


def seconds(elapsed: str) -> int:
    """[days-][hours:]minutes:seconds as squeue writes them; 0 for INVALID, which a clock that was set back gives."""
    days, _, clock = elapsed.rpartition("-")
    total = 0
    for part in clock.split(":"):
        if not part.isdigit():
            return 0
        total = 60 * total + int(part)
    return total + 86400 * int(days or 0)
