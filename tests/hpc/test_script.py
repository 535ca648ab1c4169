"""The sbatch script of a batch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hpc.jobs.graph import Batch
from hpc.jobs.queue import new_record
from hpc.jobs.script import dependency_of, script_of
from tests.hpc.conftest import Composed, graph, site


def test_dependencies_name_whole_jobs_or_the_tasks_that_are_needed() -> None:
    array = new_record("a", "reference", [(f"s{index}", "", Path("x")) for index in range(3)])
    single = new_record("b", "inject", [("t", "", Path("x"))])
    array, single = dataclasses.replace(array, job_id="7"), dataclasses.replace(single, job_id="9")
    assert dependency_of([(array, 0), (array, 1), (array, 2), (single, 0)], "afterok") == "afterok:7:9"
    assert dependency_of([(array, 2), (array, 0)], "afterany") == "afterany:7_0:7_2"
    assert dependency_of([], "afterok") is None


def test_a_script_asks_for_what_the_site_says(experiment: Composed, tmp_path: Path) -> None:
    cluster = site(
        "cluster=a100", "cluster.partition=gpu", "cluster.setup=[module load cuda]", "cluster.steps.tune.timeout_min=77"
    )
    (tune,) = (step for step in graph(experiment, "seed=0") if step.kind == "tune")
    text = script_of(Batch((tune,)), "name", tmp_path, cluster, "afterok:5", tmp_path / "code", {})
    for line in (
        "#SBATCH --partition=gpu",
        "#SBATCH --time=77",
        "#SBATCH --gpus-per-node=1",
        "#SBATCH --dependency=afterok:5",
        "#SBATCH --kill-on-invalid-dep=yes",
        "#SBATCH --job-name=name",
        "module load cuda",
        "export OMP_NUM_THREADS=8",
    ):
        assert line in text.splitlines(), text
    assert "kill-on-invalid-dep" not in script_of(Batch((tune,)), "name", tmp_path, cluster, None, tmp_path, {})
