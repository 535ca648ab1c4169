"""The records under a root, which several processes and accounts read and write."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from hpc.errors import ClusterError
from hpc.jobs import queue as module
from hpc.jobs.queue import RECORD, Queue, Record, new_record
from hpc.jobs.scheduler import TaskState

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


def record(name: str, job_id: str | None, *needs: str) -> Record:
    """The job of a single step, which waits for the jobs of these names; a job's step has its name."""
    return replace(new_record(name, "tune", [(name, "", Path("x"))], needs, needs), job_id=job_id)


def queue_of(root: Path, *records: Record) -> Queue:
    queue = Queue(root)
    for item in records:
        queue.write(item)
    return queue


def test_a_record_that_vanishes_while_others_are_read_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A submission under its lock takes back what the site has refused; readers have no lock. A second submission has,
    and refuses: a file system that shows names late may hide a job in flight."""
    queue, read = queue_of(tmp_path, record("a", "7"), record("b", None)), module.read_json

    def read_late(path: Path, *rest: object) -> object:
        if path.parent.name == "b":
            path.unlink()
        return read(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "read_json", read_late)
    assert [item.name for item in queue.records()] == ["a"]
    queue.write(record("b", None))
    with queue.locked(), pytest.raises(ClusterError, match=r"record.json is broken"):
        queue.records()


def test_a_broken_record_is_refused(tmp_path: Path) -> None:
    queue = queue_of(tmp_path, record("a", "7"))
    for text in ("{", "[" * 200_000):  # json goes down into the second one until Python stops it
        (queue.batch_folder("a") / RECORD).write_text(text)
        with pytest.raises(ClusterError, match=r"record.json is broken .*end the job a if squeue shows it"):
            queue.records()


def test_a_record_of_a_newer_version_is_read(tmp_path: Path) -> None:
    """Accounts that share a root need not update on the same day."""
    queue = queue_of(tmp_path, record("a", "7"))
    path = queue.batch_folder("a") / RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | {"colour": "blue"}))
    assert queue.records() == [replace(record("a", "7"), submitted=queue.records()[0].submitted)]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_whoever_may_write_into_the_queue_may_lock_it(tmp_path: Path, mask: int) -> None:
    """Whatever the umask of the account that came first."""
    queue = Queue(tmp_path)
    queue.folder.mkdir()
    before = os.umask(mask)
    try:
        for mode in (0o755, 0o3775):  # as long as one account works there, and since several do
            queue.folder.chmod(mode)
            (queue.folder / "lock" / ".lock").unlink(missing_ok=True)
            with queue.locked():
                folder, lock = queue.folder / "lock", queue.folder / "lock" / ".lock"
                assert stat.S_IMODE(folder.stat().st_mode) == mode & ~stat.S_ISVTX
                assert stat.S_IMODE(lock.stat().st_mode) == mode & 0o666
    finally:
        os.umask(before)


def test_the_lock_opens_no_other_folder(tmp_path: Path) -> None:
    """Others may write into a shared queue, and so put a link in the place of the lock."""
    queue, private = Queue(tmp_path), tmp_path / "private"
    queue.folder.mkdir()
    queue.folder.chmod(0o3775)
    private.mkdir(0o700)
    (queue.folder / "lock").symlink_to(private)
    with pytest.raises(ClusterError, match="lock is no folder but a link"), queue.locked():
        pass
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert list(private.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../../victim"}, "name='../../victim' is not that of its folder"),
        ({"name": "/victim"}, "name='/victim' is not that of its folder"),
        ({"job_id": "--user=alice"}, "job_id='--user=alice' is no number"),
        ({"job_id": "7 8"}, "job_id='7 8' is no number"),
        ({"job_id": ""}, "job_id='' is no number"),
        ({"user": "0,alice"}, "user='0,alice' is no number"),
        ({"cluster": "b; touch pwned"}, "cluster='b; touch pwned' is no name of one"),
        ({"steps": []}, "it has not one label and one folder for every step"),
        ({"folders": []}, "it has not one label and one folder for every step"),
    ],
)
def test_a_record_leads_to_no_other_folder_and_into_no_option(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    """Whoever shares the root can have written it."""
    queue = queue_of(tmp_path / "runs", record("a", "7"), record("b", "8", "a"))
    path = queue.batch_folder("b") / RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ClusterError, match=rf"ValueError: {message}"):
        queue.cancel_dependants("a", 0)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_only_jobs_that_have_the_name_of_their_record_are_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that others wrote may have the id of any job of this account."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    listed = "echo '8|N/A|PENDING|0:00|Dependency||b'; echo '9|N/A|RUNNING|0:01||n1|something-else'"
    for name, script in (("squeue", listed), ("scancel", f'echo "$@" >> {tmp_path}/cancelled')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    queue = queue_of(tmp_path / "runs", record("a", "7"), record("b", "8", "a"), record("c", "9", "a"))
    queue.cancel_dependants("a", 0)
    assert (tmp_path / "cancelled").read_text() == "-- 8\n"
    assert queue.cancel_reason(record("c", "9")) == "needs a"
    (tmp_path / "runs" / "queue" / "c.cancelled").write_text("needs z")  # by another account, which owns the note
    queue.cancel_dependants("a", 0)
    assert queue.cancel_reason(record("c", "9")) == "needs z"


def test_a_note_that_is_a_link_to_nothing_keeps_no_job_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name, script in (("squeue", "echo '8|N/A|PENDING|0:00|Dependency||b'"), ("scancel", f"touch {tmp_path}/over")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    queue = queue_of(tmp_path / "runs", record("a", "7"), record("b", "8", "a"))
    (queue.folder / "b.cancelled").symlink_to(tmp_path / "gone")
    queue.cancel_dependants("a", 0)
    assert (tmp_path / "over").exists()
    assert not (tmp_path / "gone").exists()


def test_an_intent_for_another_cluster_is_kept_and_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be this one by another name; only where squeue does not list the job, the other one may know it."""
    queue = queue_of(tmp_path, record("a", None), record("b", None))
    monkeypatch.setenv("SLURM_CLUSTERS", "elsewhere")
    queue.settle({"a": [TaskState("7", None, "PENDING", "", 0)]})
    assert sorted((item.name, item.job_id) for item in queue.records()) == [("a", "7"), ("b", None)]


@pytest.mark.parametrize("is_own", [True, pytest.param(False, marks=needs_root)])
def test_intents_are_settled_on_the_disk_by_their_own_account(tmp_path: Path, is_own: bool) -> None:
    """Another account may not write there, and knows all the same what waits or runs."""
    queue = queue_of(tmp_path, record("a", None), record("b", None), record("c", "9"))
    if not is_own:
        for name in "ab":
            os.chown(queue.batch_folder(name), 4711, 4711)
    settled = queue.settle({"a": [TaskState("7", None, "PENDING", "", 0)]})
    assert sorted((item.name, item.job_id) for item in settled) == [("a", "7"), ("c", "9")]
    on_disk = sorted((item.name, item.job_id or "") for item in queue.records())
    assert on_disk == ([("a", "7"), ("c", "9")] if is_own else [("a", ""), ("b", ""), ("c", "9")])
