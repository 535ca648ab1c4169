"""What has been submitted under a root, by anybody: one record per batch in root/queue/.

in:  records, each written before its sbatch is called
out: records with the ids of their jobs

Every account that shares the root may write here. So names and ids are looked at before paths and commands are made of
them, and only jobs that squeue lists under a record's name are taken out of the queue.

A record without an id is an intent: a submission was interrupted before or after SLURM heard of the job. SLURM is then
asked for the batch's name, which is unique, and the record is completed or removed.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hpc.errors import ClusterError
from hpc.jobs import scheduler
from hpc.jobs.command import ATTEMPTS, LONGEST_ANSWER_S, NAME_OF_A_CLUSTER, cluster
from hpc.jobs.files import read_json, write_bytes, write_json
from hpc.jobs.owned import opened_folder, own_folder, shared_folder
from hpc.jobs.scheduler import States, TaskState
from hpc.types import require_types

RECORD = "record.json"
WHERE_A_JOB_ENDS = (2, 15.0)  # attempts and seconds for an answer: its nodes stand idle meanwhile


@dataclass(frozen=True)
class Record:
    """A submitted batch."""

    name: str
    kind: str
    steps: tuple[str, ...]  # identities; a step's position is its index in the array
    labels: tuple[str, ...]
    folders: tuple[str, ...]
    after: tuple[str, ...]  # names of the batches that it waits for
    is_array: bool
    gpus: int  # of one task
    submitted: float  # seconds since the epoch
    by: str  # the account
    job_id: str | None = None
    user: str = ""  # whose job it is, by SLURM's number; "": unknown
    needs: tuple[str, ...] = ()  # identities of the steps that must be done before it may run
    code: str = ""  # the snapshot that it runs
    cluster: str = ""  # SLURM_CLUSTERS where it was submitted; "": the cluster of that machine
    submission: int = 0  # how many submissions to this root came before; the clocks of login nodes do not tell

    def states(self, known: States) -> dict[str, TaskState]:
        """By step identity, what squeue says."""
        states = {}
        for task in known.get(self.name, []):
            if self.job_id in (None, task.job_id):  # names are unique; the job of an intent is known by its name
                indices = range(len(self.steps)) if task.index is None else [task.index]
                states.update({self.steps[index]: task for index in indices if index < len(self.steps)})
        return states


class Queue:
    """The records under one root."""

    def __init__(self, root: Path) -> None:
        self.folder, self.is_locked = root / "queue", False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Inside, no other submission to this root is at work.

        Raises ClusterError if this account may not write, and as `shared_folder` does.
        """
        try:
            shared_folder(self.folder)
            lock = self._lock()
            lock.acquire(timeout=0)
        except Timeout:
            print(f"  waiting: another submission is at work on {self.folder}", file=sys.stderr, flush=True)
            lock.acquire(poll_interval=0.5)  # on a file server every look costs something
        except PermissionError as error:
            raise ClusterError(
                f"{error.filename} is not yours to write; whoever shares a root needs a common group, a folder with "
                "chmod g+ws, and umask 002; its owner has to run chmod g+w on it"
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
            raise ClusterError(
                f"the file system of {self.folder} has no locks ({error.strerror}), so two submissions could meet; "
                "mount it with flock, or set root=FOLDER on another"
            ) from error
        self.is_locked = True
        try:
            yield
        finally:
            self.is_locked = False
            lock.release()

    def _lock(self) -> FileLock:
        """Whoever may write into the queue may lock it, whatever the umask of who came first.

        Its folder is not sticky: in a sticky folder nobody takes the lock file of another account. Raises OSError, and
        ClusterError for a link, through which another folder would get these rights.
        """
        folder, rights = self.folder / "lock", stat.S_IMODE(self.folder.stat().st_mode) & ~stat.S_ISVTX
        with opened_folder(folder) as descriptor:
            if os.fstat(descriptor).st_uid == os.geteuid():
                os.fchmod(descriptor, rights)
        # a soft lock outlives a killed process
        return FileLock(folder / ".lock", mode=rights & 0o666, fallback_to_soft=False)

    def records(self) -> list[Record]:
        """All of them, the oldest first. Raises ClusterError where a record is broken.

        One that vanishes while this reads is none: a submission takes back what the site has refused. Under the lock
        there is no such submission, and a record that cannot be read may be that of a job in flight.
        """
        records = list[Record]()
        for path in self.folder.glob(f"*/{RECORD}"):
            try:
                records.append(self._read(path))
            except ClusterError:
                if self.is_locked or path.exists():
                    raise
        return sorted(records, key=lambda record: (record.submission, record.submitted))

    def batch_folder(self, name: str) -> Path:
        """The folder of a batch: its record, script, payload, logs and attempts."""
        return self.folder / name

    def new_batch_folder(self, name: str) -> Path:
        """The same, made anew. Jobs open files in it, so only this account can put anything there."""
        return own_folder(self.batch_folder(name))

    def write(self, record: Record) -> None:
        """Add a record, or replace the one with the same name."""
        write_json(self.batch_folder(record.name) / RECORD, asdict(record))

    def forget(self, record: Record) -> None:
        """Remove the record of a batch that never was in SLURM's queue."""
        (self.batch_folder(record.name) / RECORD).unlink()

    def cancel_dependants(self, name: str, index: int) -> None:
        """Take out of SLURM's queue what waits for a step of the batch `name`, directly or not, and note the cause.

        Jobs of other accounts stay; for them SLURM has kill-on-invalid-dep.
        """
        step = self._read(self.batch_folder(name) / RECORD).steps[index]
        failed_steps, failed_batches, dependants = {step}, {name}, list[Record]()
        records = [record for record in self.records() if record.job_id is not None]
        while True:
            more = [
                record
                for record in records
                if record not in dependants and failed_steps & set(record.needs) and failed_batches & set(record.after)
            ]
            if not more:
                break
            failed_steps |= {waiting for record in more for waiting in record.steps}
            failed_batches |= {record.name for record in more}
            dependants += more
        for record in dependants:
            if not os.path.lexists(self._cancelled(record)):  # what another account noted cannot be replaced
                write_bytes(self._cancelled(record), f"needs {step}\n".encode())
        known = states_of(dependants, *WHERE_A_JOB_ENDS)
        confirmed = {task.job_id for record in dependants for task in record.states(known).values()}
        scheduler.cancel(sorted(confirmed), *WHERE_A_JOB_ENDS)

    def cancel_reason(self, record: Record) -> str:
        """What `cancel_dependants` noted; empty where it noted nothing."""
        path = self._cancelled(record)
        return path.read_text(encoding="utf-8").strip() if path.exists() else ""

    def _cancelled(self, record: Record) -> Path:
        """The note why a batch was cancelled: not in its folder, into which only its own account may write."""
        return self.folder / f"{record.name}.cancelled"

    def settle(self, known: States) -> list[Record]:
        """All records, where intents whose jobs SLURM knows are completed, and others are left out.

        Those of this account are completed or removed on the disk, too, if they are of the cluster that was asked.
        """
        settled = (self._settled(record, known.get(record.name, [])) for record in self.records())
        return [record for record in settled if record is not None]

    def _settled(self, record: Record, tasks: Sequence[TaskState]) -> Record | None:
        """None for an intent of which SLURM knows no job."""
        if record.job_id is not None:
            return record
        is_ours = self.batch_folder(record.name).stat().st_uid == os.geteuid()
        if not tasks:
            if is_ours and record.cluster == cluster():  # another one may know it
                self.forget(record)
            return None
        job_id = tasks[-1].job_id
        record = replace(record, job_id=job_id, user=scheduler.user_of(job_id))
        if is_ours:
            self.write(record)
        return record

    @staticmethod
    def _read(path: Path) -> Record:
        name = path.parent.name
        return read_json(path, partial(_record, name), f"end the job {name} if squeue shows it, and delete its folder")


def _record(name: str, values: Any) -> Record:
    lists = ("steps", "labels", "folders", "after", "needs")
    known = {field.name: values[field.name] for field in fields(Record) if field.name in values}  # not a newer code's
    record = Record(**(known | {field: tuple(known[field]) for field in lists if field in known}))
    require_types(record)
    if record.name != name:
        raise ValueError(f"name={record.name!r} is not that of its folder")
    for field, text in (("job_id", record.job_id), ("user", record.user or None)):
        if text is not None and not re.fullmatch("[0-9]+", text):
            raise ValueError(f"{field}={text!r} is no number")
    if not re.fullmatch(NAME_OF_A_CLUSTER, record.cluster):
        raise ValueError(f"cluster={record.cluster!r} is no name of one")
    if not record.steps or not len(record.steps) == len(record.labels) == len(record.folders):
        raise ValueError("it has not one label and one folder for every step")
    return record


def states_of(records: Iterable[Record], attempts: int = ATTEMPTS, patience_s: float = LONGEST_ANSWER_S) -> States:
    """What squeue says of these batches. Raises ClusterError as `scheduler.query` does."""
    asked = list(records)
    return scheduler.query([record.name for record in asked], {record.user for record in asked}, attempts, patience_s)


def new_record(
    name: str,
    kind: str,
    steps: Sequence[tuple[str, str, Path]],
    after: Sequence[str] = (),
    needs: Sequence[str] = (),
    gpus: int = 0,
    code: str = "",
    submission: int = 0,
    user: str = "",
) -> Record:
    """The record of a batch that this account submits now; `steps` are (identity, label, folder)."""
    return Record(
        name,
        kind,
        steps=tuple(step for step, _, _ in steps),
        labels=tuple(label for _, label, _ in steps),
        folders=tuple(str(folder) for _, _, folder in steps),
        after=tuple(after),
        is_array=len(steps) > 1,
        gpus=gpus,
        submitted=time.time(),
        by=os.environ.get("USER") or str(os.getuid()),
        user=user,
        needs=tuple(needs),
        code=code,
        cluster=cluster(),
        submission=submission,
    )
