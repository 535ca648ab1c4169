"""Submission as a state machine: random graphs, random answers of the scheduler, jobs that fail, in any order.

Whatever happens, no two jobs of a step wait or run at once, no step begins before what it needs is done, and a last
submission whose answers are right brings every step to its end, each done once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hpc.errors import ClusterError
from hpc.jobs import queue
from hpc.jobs.cluster import Cluster
from hpc.jobs.graph import identity, in_order
from hpc.jobs.queue import Queue
from hpc.jobs.submission import submit
from tests.hpc.answers import Job, PlainStep, Scheduler, Trouble
from tests.hpc.conftest import site, sweep_to

ACTIVE = ("PENDING", "RUNNING")
MOST_STEPS = 6


@cache
def small_site() -> Cluster:
    return replace(site(), max_array=3)


class Submission(RuleBasedStateMachine):
    """One root, one graph, many submissions."""

    @initialize(
        shape=st.lists(
            st.tuples(st.sampled_from("ab"), st.booleans(), st.integers(0, 2**MOST_STEPS)), max_size=MOST_STEPS
        ),
        site_check=st.booleans(),
    )
    def begin(self, shape: list[tuple[str, bool, int]], site_check: bool) -> None:
        """A graph: of every step its kind, whether it may be in an array, and which of the earlier ones it needs."""
        self.root = Path(tempfile.mkdtemp())
        steps: list[PlainStep] = []
        for index, (kind, may_join, mask) in enumerate(shape):
            needs = tuple(step for position, step in enumerate(steps) if mask >> position & 1)
            array = f"{kind} {sorted(step.key for step in needs)}" if may_join else None
            steps.append(PlainStep(self.root, f"{index:012d}", kind, array, needs))
        last = PlainStep(self.root, "f" * 12, "last", None, tuple(steps))
        self.steps = {identity(step): step for step in in_order([last])}
        sweep = sweep_to(last, self.root, "hpc.errors")
        self.sweep = replace(sweep, program="tests.hpc.answers", libraries=(), site_check=site_check)
        self.scheduler = Scheduler(Queue(self.root))
        self.lines = list[str]()  # what failed submissions said
        self.num_done = dict.fromkeys(self.steps, 0)

    def teardown(self) -> None:
        if hasattr(self, "root"):
            try:
                self.bring_to_its_end()
            finally:
                shutil.rmtree(self.root)

    def submit(self, clock_s: float = 0.0) -> bool:
        """Whether everything was submitted; all other ends are errors in one line. The clock is so much ahead."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(subprocess, "run", self.scheduler.run)
            patch.setattr(shutil, "which", lambda name, *_, **__: name)
            patch.setattr(queue, "time", SimpleNamespace(time=lambda: time.time() + clock_s))
            patch.setenv("NEUROGEN_POLL_S", "0.0005")
            try:
                return not submit(self.sweep, small_site()).refusal
            except ClusterError as error:
                self.lines.append(str(error))
                return False

    @rule(
        troubles=st.lists(st.tuples(st.sampled_from(Trouble), st.integers(1, 8)), max_size=8),
        clock_s=st.sampled_from([-600.0, 0.0, 600.0]),
    )
    def submit_in_trouble(self, troubles: list[tuple[Trouble, int]], clock_s: float) -> None:
        """Every trouble for as many answers; a submission gives up after six. Login nodes have clocks of their own."""
        self.scheduler.troubles = [trouble for trouble, count in troubles for _ in range(count)]
        self.submit(clock_s)
        self.scheduler.troubles = []

    @precondition(lambda self: self.scheduler.may_begin())
    @rule(data=st.data())
    def begin_a_task(self, data: st.DataObject) -> None:
        job, index = data.draw(st.sampled_from(self.scheduler.may_begin()))
        self.begin_task(job, index)

    @precondition(lambda self: self.scheduler.running())
    @rule(data=st.data(), is_good=st.booleans())
    def end_a_task(self, data: st.DataObject, is_good: bool) -> None:
        job, index = data.draw(st.sampled_from(self.scheduler.running()))
        self.end_task(job, index, is_good)

    @rule(data=st.data())
    def forget_ended_jobs(self, data: st.DataObject) -> None:
        """As SLURM does, minutes later."""
        for job in self.scheduler.jobs:
            job.is_known &= bool(set(job.states) & set(ACTIVE)) or data.draw(st.booleans())

    def begin_task(self, job: Job, index: int) -> None:
        step = self.steps.get(job.steps[index])
        if step is not None and step is not self.sweep.last:
            assert all(needed.is_done for needed in step.needs), "a step begins before what it needs is done"
        job.states[index] = "RUNNING"

    def end_task(self, job: Job, index: int, is_good: bool) -> None:
        job.states[index] = "COMPLETED" if is_good else "FAILED"
        name = job.steps[index]
        if is_good and name in self.steps:
            self.steps[name].finish()
            self.num_done[name] += 1
        elif is_good:
            (check,) = (self.root / "check").glob(f"*-{name.rpartition('-')[2]}")
            (check / "DONE").touch()

    @invariant()
    def no_two_jobs_of_a_step(self) -> None:
        if not hasattr(self, "root"):
            return
        active = [
            (job.steps[index], job.number)
            for job in self.scheduler.jobs
            for index, state in enumerate(job.states)
            if state == "RUNNING" or (state == "PENDING" and not self.scheduler.is_hopeless(job))
        ]
        names = [name for name, _ in active]
        assert len(names) == len(set(names)), active

    @invariant()
    def records_are_in_the_order_of_their_submissions(self) -> None:
        if hasattr(self, "root"):
            names = [record.name for record in Queue(self.root).records()]
            given = list(dict.fromkeys(job.name for job in self.scheduler.jobs))
            assert [name for name in names if name in given] == [name for name in given if name in names]

    def bring_to_its_end(self) -> None:
        """Submit with right answers, let everything run, until the last step is done."""
        for _ in range(3 + len(self.steps)):
            while self.scheduler.may_begin() or self.scheduler.running():
                for job, index in self.scheduler.running():
                    self.end_task(job, index, is_good=True)
                    self.no_two_jobs_of_a_step()
                for job, index in self.scheduler.may_begin()[:1]:
                    self.begin_task(job, index)
            assert self.submit()
            self.no_two_jobs_of_a_step()
            if not self.scheduler.may_begin():
                break
        assert all(step.is_done for step in self.steps.values())
        assert all(len(line.splitlines()) == 1 for line in self.lines)
        counts = {name: count for name, count in self.num_done.items() if self.steps[name] is not self.sweep.last}
        assert set(counts.values()) <= {1}, counts
        assert not [job for job in self.scheduler.jobs if set(job.states) & set(ACTIVE)]


TestSubmission = pytest.mark.faults(Submission.TestCase)
TestSubmission.settings = settings(
    max_examples=int(os.environ.get("FAULT_TRIES", "15")),
    stateful_step_count=25,
    deadline=None,
    derandomize="FAULT_SEED" not in os.environ,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
