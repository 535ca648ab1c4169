"""From steps to batches."""

from __future__ import annotations

import dataclasses
import re

from hpc.jobs.graph import batches, identity
from tests.hpc.conftest import Composed, graph


def test_points_that_share_steps_share_them(experiment: Composed) -> None:
    """Three learning rates of stage 2: one zoo, one stage 1, three of the rest, one table."""
    steps = graph(experiment, *(f"recipe.tune.lr={lr}" for lr in ("1e-3", "2e-3", "3e-3")))
    kinds = [step.kind for step in steps]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "reference": 1, "classical": 1, "inject": 1, "tune": 3, "evaluate": 3, "sweeps": 1,
    }  # fmt: skip
    positions = {identity(step): position for position, step in enumerate(steps)}
    assert all(positions[identity(needed)] < positions[identity(step)] for step in steps for needed in step.needs)


def test_networks_of_a_task_are_one_array(experiment: Composed) -> None:
    steps = graph(experiment, "zoo.num_networks=5 zoo.chunk_size=1", "zoo.num_networks=5 zoo.chunk_size=1 seed=1")
    jobs = batches(steps, max_array=100)
    assert [(job.kind, len(job.steps)) for job in jobs[:2]] == [("reference", 6), ("inject", 1)]
    assert len(jobs) == 2 * 4 + 1  # never one per network
    assert [len(job.steps) for job in batches(steps, max_array=4) if job.kind in ("reference", "classical")] == [
        4, 2, 4, 2,
    ]  # fmt: skip
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    assert names == [job.name for job in batches(steps, max_array=100)]


def test_the_name_of_a_job_is_short_and_plain(experiment: Composed) -> None:
    """Whatever the label; SLURM takes 1024 bytes, a folder's name 255, and some sites letters and digits alone."""
    *_, last = graph(experiment, "seed=0")
    (job,) = batches([dataclasses.replace(last, name="Zoo/ä-%j-" + 100 * "long")], max_array=1)
    assert re.fullmatch(r"ng-sweeps-Zoo----j-(long)+\w*-[0-9a-f]{8}", job.name), job.name
    assert len(job.name) < 100
    (other,) = batches([dataclasses.replace(last, name="Zoo/ä-%j-" + 101 * "long")], max_array=1)
    assert other.name != job.name
