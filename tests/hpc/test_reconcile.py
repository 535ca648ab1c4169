"""What earlier submissions left in the queue."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hpc.jobs.queue import Record, new_record
from hpc.jobs.reconcile import take_out_hopeless
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
