"""What earlier submissions left in the queue."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest

from hpc.jobs.attempts import AttemptLog
from hpc.jobs.queue import Queue, Record, new_record
from hpc.jobs.reconcile import REMEMBERED_S, failed_nodes, in_flight, take_out_hopeless
from hpc.jobs.scheduler import TaskState


def record(name: str, *needs: str, after: list[str]) -> Record:
    """The job of a single step."""
    new = new_record(f"job-{name}", "tune", [(name, "", Path("x"))], after, list(needs))
    return dataclasses.replace(new, job_id=name)


def test_what_waits_for_a_job_that_failed_is_not_in_flight() -> None:
    """a failed in its job; b waits for a and c for b, hopelessly. d waits for what is done, e for a job that runs."""
    b, c = record("b", "a", after=["job-a"]), record("c", "b", after=["job-b"])
    d, e = record("d", "z", after=["job-z"]), record("e", "d", after=["job-d"])
    waiting = {job.steps[0]: (job, 0) for job in (b, c, d, e)}
    assert [job.name for job in take_out_hopeless(waiting, {}, {"z"}, set("abcdez"))] == ["job-b", "job-c"]
    assert set(waiting) == {"d", "e"}


def test_what_runs_has_what_it_needs() -> None:
    """Although the marker of a is not visible from here yet."""
    waiting = {"b": (record("b", "a", after=["job-a"]), 0)}
    runs = {"job-b": [TaskState("b", None, "RUNNING", "", 5)]}
    assert take_out_hopeless(waiting, runs, set(), {"a", "b"}) == []


def test_what_waits_for_an_earlier_job_of_a_step_is_not_in_flight() -> None:
    """a is in flight again, in another job than the one that b waits for."""
    again = dataclasses.replace(record("a", after=[]), name="job-a-again")
    waiting = {"a": (again, 0), "b": (record("b", "a", after=["job-a"]), 0)}
    assert [job.name for job in take_out_hopeless(waiting, {}, set(), set("ab"))] == ["job-b"]


@pytest.mark.parametrize(
    ("state", "exit_status", "is_in_flight"),
    [
        ("COMPLETING", 1, False),  # the end of its job takes long
        ("COMPLETING", 130, True),  # it is put back into the queue
        ("COMPLETING", 0, True),
        ("COMPLETING", None, True),
        ("RUNNING", 1, True),  # an earlier attempt
    ],
)
def test_a_step_that_has_failed_is_not_in_flight_while_its_job_ends(
    tmp_path: Path, state: str, exit_status: int | None, is_in_flight: bool
) -> None:
    queue, job = Queue(tmp_path), record("a", after=[])
    queue.batch_folder(job.name).mkdir(parents=True)
    log = AttemptLog(queue.batch_folder(job.name), 0)
    log.write(dataclasses.replace(log.attempt, exit_status=exit_status))
    known = {"job-a": [TaskState("a", None, state, "", 5)]}
    assert in_flight(queue, [job], known) == ({"a": (job, 0)} if is_in_flight else {})


def test_a_node_that_failed_is_avoided_for_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Since it failed, however long its job had waited; and only by steps that are missing."""
    monkeypatch.setattr("hpc.jobs.scheduler.nodes", lambda: {"n1", "n2"})
    monkeypatch.setattr("hpc.jobs.scheduler.history", lambda ids: {})
    known = {"job-a": [TaskState("a", None, "NODE_FAIL", "", 5, node="n1")]}
    queue, job = Queue(tmp_path), record("a", after=[])
    long_ago = dataclasses.replace(job, submitted=time.time() - REMEMBERED_S - 1)
    assert failed_nodes(queue, [job], known, {"a"}) == ["n1"]
    assert failed_nodes(queue, [job], known, {"b"}) == []
    assert failed_nodes(queue, [long_ago], known, {"a"}) == []
    queue.batch_folder(job.name).mkdir(parents=True)
    log = AttemptLog(queue.batch_folder(job.name), 0)
    log.write(dataclasses.replace(log.attempt, ended=time.time() - 60))
    assert failed_nodes(queue, [long_ago], known, {"a"}) == ["n1"]
