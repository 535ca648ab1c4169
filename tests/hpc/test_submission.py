"""What of a sweep is submitted."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hpc.jobs.graph import identity
from hpc.jobs.queue import Queue
from hpc.jobs.submission import missing_steps, submit
from tests.hpc.answers import USER, PlainStep, Scheduler
from tests.hpc.conftest import Composed, graph, site, sweep_to


@pytest.mark.parametrize(
    ("present", "tried", "expected"),
    [
        ([], [], ["reference", "classical", "inject", "tune", "evaluate"]),
        (["reference", "inject"], [], ["classical", "tune", "evaluate"]),
        (["reference"], ["reference", "inject"], ["classical"]),  # what needs inject is not tried without it
        (["reference", "inject"], ["reference", "inject"], ["classical", "tune", "evaluate"]),
        ([], ["classical"], ["reference", "inject", "tune"]),
    ],
)
def test_what_was_tried_in_vain_is_left_with_all_that_needs_it(
    experiment: Composed, present: list[str], tried: list[str], expected: list[str]
) -> None:
    *steps, _ = graph(experiment, "seed=0")
    names = {step.kind: identity(step) for step in steps}
    missing = missing_steps(steps, [names[kind] for kind in present], [names[kind] for kind in tried])
    assert sorted(step.kind for step in missing) == sorted(expected)


def test_a_record_says_whose_jobs_the_controller_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler, calls = Scheduler(Queue(tmp_path)), list[list[str]]()

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        calls.append(command)
        return scheduler.run(command, **options)

    first = PlainStep(tmp_path, "0" * 12, "a", None, ())
    sweep = sweep_to(PlainStep(tmp_path, "f" * 12, "last", None, (first,)), tmp_path, "hpc.errors")
    sweep = replace(sweep, program="tests.hpc.answers", libraries=())
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(shutil, "which", lambda name, *_, **__: name)
    submit(sweep, site())
    assert [record.user for record in Queue(tmp_path).records()] == [USER, USER]
    calls.clear()
    assert len(submit(sweep, site()).in_flight) == 2
    assert [command[-1] for command in calls if command[0] == "squeue"] == [f"--user={USER}"]
