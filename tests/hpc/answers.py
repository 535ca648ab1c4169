"""Answers of a scheduler, made up by a test: right, lost, late, doubled or garbage.

in:  calls of squeue, sbatch, scancel, sinfo, sacct and scontrol, as hpc.jobs.scheduler makes them; which answers go
     wrong next
out: what the command would print; the jobs that a scheduler would hold after it
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from hpc.jobs.queue import Queue

USER, STATES = "4242", "%F|%K|%T|%M|%r|%N|%j"
SILENT = b"slurm_load_jobs error: Unable to contact slurm controller (connect failure)"


class Trouble(StrEnum):
    """What goes wrong with one answer."""

    NONE = "none"
    UNSENT = "unsent"  # the controller has not got the request
    LOST = "lost"  # it has, and its answer got lost
    LATE = "late"  # it has, and its answer comes too late
    GARBAGE = "garbage"  # it has, and prints something else
    DOUBLED = "doubled"  # it has, and says it twice, among what a site's wrapper prints
    FOREIGN = "foreign"  # it has not, and says so in another language
    FULL = "full"  # this account may not queue more


@dataclass
class Job:
    """A job, or all tasks of an array."""

    number: str
    name: str
    steps: tuple[str, ...]
    is_array: bool
    afterok: set[tuple[str, int | None]]  # (job, task; None: all of them)
    afterany: set[tuple[str, int | None]]
    states: list[str] = field(default_factory=list)  # in SLURM's words, of every task
    is_known: bool = True  # to squeue: ended jobs are forgotten after a while

    def task_states(self, index: int | None) -> list[str]:
        """Of one task, or of all."""
        return self.states if index is None else [self.states[index]]


class Scheduler:
    """Its jobs, and what it answers."""

    def __init__(self, queue: Queue) -> None:
        self.queue, self.jobs, self.troubles = queue, list[Job](), list[Trouble]()

    def run(self, command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        """In the place of subprocess.run."""
        trouble = self.troubles.pop(0) if self.troubles and command[0] in ("squeue", "sbatch", "scancel") else None
        if trouble == Trouble.UNSENT:
            return subprocess.CompletedProcess(command, 1, b"", SILENT)
        if trouble == Trouble.FOREIGN:
            return subprocess.CompletedProcess(command, 1, b"", "Zugriff verweigert (Gerät belegt)".encode("latin-1"))
        if trouble == Trouble.FULL and command[0] == "sbatch":
            error = b"sbatch: error: AssocMaxSubmitJobLimit\nJob violates accounting/QOS policy"
            return subprocess.CompletedProcess(command, 1, b"", error)
        status, printed = getattr(self, f"_{command[0]}")(command, options.get("input"))
        if trouble == Trouble.LOST:
            return subprocess.CompletedProcess(command, 1, b"", b"Socket timed out on send/recv operation")
        if trouble == Trouble.LATE:
            raise subprocess.TimeoutExpired(command, 1.0)
        if trouble == Trouble.GARBAGE:
            printed = b"\xff\xfe|||\n" + (printed if command[0] == "squeue" else b"welcome to our cluster\n")
        if trouble == Trouble.DOUBLED:
            printed = b"welcome to our cluster\n" + printed + printed
        return subprocess.CompletedProcess(command, status, printed, b"")

    def _squeue(self, command: list[str], given: object) -> tuple[int, bytes]:
        options = dict(word.partition("=")[::2] for word in command)
        if options.get("--user", USER) != USER:
            return 0, b""
        known = [job for job in self.jobs if job.is_known and options.get("--jobs", job.number) == job.number]
        if options["--format"] != STATES:
            return 0, "".join(f"{USER if options['--format'] == '%U' else job.number}\n" for job in known).encode()
        lines = []
        for job in known:
            for index, state in enumerate(job.states):
                task = str(index) if job.is_array else "N/A"
                reason = "DependencyNeverSatisfied" if state == "PENDING" and self.is_hopeless(job) else "None"
                lines.append(f"{job.number}|{task}|{state}|0:05|{reason}|n1|{job.name}")
        return 0, "\n".join(lines).encode() + b"\n"

    def _sbatch(self, command: list[str], given: object) -> tuple[int, bytes]:
        assert isinstance(given, bytes)
        script = given.decode()
        name = re.findall(r"^#SBATCH --job-name=(\S+)", script, flags=re.MULTILINE)[0].strip("'")
        record = next(record for record in self.queue.records() if record.name == name)  # it is written first
        groups = {"afterok": set[tuple[str, int | None]](), "afterany": set[tuple[str, int | None]]()}
        for line in re.findall(r"^#SBATCH --dependency=(\S+)", script, flags=re.MULTILINE):
            for group in line.strip("'").split(","):
                kind, *ids = group.split(":")
                pairs = [word.partition("_") for word in ids]
                groups[kind] |= {(number, int(task) if task else None) for number, _, task in pairs}
        is_array = "#SBATCH --array=" in script
        assert is_array == (len(record.steps) > 1)
        states = ["PENDING"] * len(record.steps)
        number = str(100 + len(self.jobs))
        self.jobs.append(Job(number, name, record.steps, is_array, groups["afterok"], groups["afterany"], states))
        return 0, f"{number}\n".encode()

    def _scancel(self, command: list[str], given: object) -> tuple[int, bytes]:
        for job in self.jobs:
            if job.number in command[1:]:
                job.states = ["CANCELLED" if state in ("PENDING", "RUNNING") else state for state in job.states]
        return 0, b""

    def _sinfo(self, command: list[str], given: object) -> tuple[int, bytes]:
        return 0, b"n1\nn2\n"

    def _sacct(self, command: list[str], given: object) -> tuple[int, bytes]:
        return 1, b""

    def _scontrol(self, command: list[str], given: object) -> tuple[int, bytes]:
        return 0, b"MaxArraySize            = 3\n"

    def job(self, number: str) -> Job:
        """The job with this number."""
        return next(job for job in self.jobs if job.number == number)

    def is_hopeless(self, job: Job) -> bool:
        """Whether it waits for a task that has not ended well."""
        awaited = [state for number, task in job.afterok for state in self.job(number).task_states(task)]
        return any(state in ("FAILED", "CANCELLED") for state in awaited)

    def may_begin(self) -> list[tuple[Job, int]]:
        """The tasks that wait for nothing any more."""
        ready = []
        for job in self.jobs:
            good = [state for number, task in job.afterok for state in self.job(number).task_states(task)]
            over = [state for number, task in job.afterany for state in self.job(number).task_states(task)]
            is_free = all(state == "COMPLETED" for state in good) and not {"PENDING", "RUNNING"} & set(over)
            ready += [(job, index) for index, state in enumerate(job.states) if state == "PENDING" and is_free]
        return ready

    def running(self) -> list[tuple[Job, int]]:
        """The tasks that run."""
        return [(job, index) for job in self.jobs for index, state in enumerate(job.states) if state == "RUNNING"]


@dataclass(frozen=True)
class PlainStep:
    """A step that does nothing: a hpc.jobs.graph.Step."""

    root: Path
    key: str
    kind: str
    array: str | None
    needs: tuple[PlainStep, ...]

    label = "plain"
    shared = False

    @property
    def folder(self) -> Path:
        """Where its result would be."""
        return self.root / self.kind / self.key

    @property
    def marker(self) -> Path:
        """What says that it is done."""
        return self.folder / "DONE"

    @property
    def is_done(self) -> bool:
        """Whether it is."""
        return self.marker.exists()

    def finish(self) -> None:
        """Do it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.marker.touch()

    def run(self, runtime: object) -> None:
        """Do it, as a job would."""
        self.finish()


def describe(steps: list[PlainStep]) -> list[str]:
    """As a hpc.jobs.payload.Program."""
    return [step.key for step in steps]
