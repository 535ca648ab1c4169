"""The sbatch script of a batch."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from hpc.jobs.graph import Batch
from hpc.jobs.queue import new_record
from hpc.jobs.script import dependency_of, script_of
from tests.hpc.conftest import PROGRAM, Composed, graph, site


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
    text = script_of(Batch((tune,)), "name", tmp_path, cluster, "afterok:5", tmp_path / "code", PROGRAM, {}, "d1")
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
    assert "kill-on-invalid-dep" not in script_of(
        Batch((tune,)), "name", tmp_path, cluster, None, tmp_path, PROGRAM, {}, "d1"
    )


@pytest.mark.parametrize(
    ("overrides", "expected", "absent"),
    [
        ([], "#SBATCH --gpus-per-node=1", "--gres"),
        (["cluster.gpu_type=a100"], "#SBATCH --gpus-per-node=a100:1", "--gres"),
        (["cluster.gpu_option=gres"], "#SBATCH --gres=gpu:1", "--gpus-per-node"),
        (["cluster.gpu_option=gres", "cluster.gpu_type=a100"], "#SBATCH --gres=gpu:a100:1", "--gpus-per-node"),
        (["cluster.gpu_option=gres", "cluster.steps.tune.gpus_per_node=0"], "#SBATCH --nodes=1", "gpu:"),
        (["cluster.steps.tune.mem_gb=null"], "#SBATCH --nodes=1", "--mem"),
        (
            ["cluster.steps.tune.mem_gb=null", "+cluster.additional.mem_per_cpu=4G"],
            "#SBATCH --mem-per-cpu=4G",
            "--mem=",
        ),
        (["+cluster.additional.exclusive=true", "+cluster.additional.mem=0"], "#SBATCH --exclusive", "--mem=6"),
        (["cluster.partition=gpu", "+cluster.steps.tune.partition=big"], "#SBATCH --partition=big", "=gpu"),
        (["+cluster.additional.gpu_bind=none"], "#SBATCH --gpu-bind=none", "--gres"),
    ],
)
def test_a_script_asks_in_the_way_of_the_site(
    experiment: Composed, tmp_path: Path, overrides: list[str], expected: str, absent: str
) -> None:
    (tune,) = (step for step in graph(experiment, "seed=0") if step.kind == "tune")
    text = script_of(
        Batch((tune,)), "name", tmp_path, site("cluster=a100", *overrides), None, tmp_path, PROGRAM, {}, "d1"
    )
    assert expected in text.splitlines(), text
    assert absent not in text


def test_a_step_runs_in_the_container_of_the_site(experiment: Composed, tmp_path: Path) -> None:
    """Inside srun, with the Python of the container; options of srun are for pyxis, and for how ranks are bound."""
    (tune,) = (step for step in graph(experiment, "seed=0") if step.kind == "tune")
    step = f"-P -u -m hpc {PROGRAM} {tmp_path} sha256=d1"
    plain = script_of(Batch((tune,)), "name", tmp_path, site("cluster=a100"), None, tmp_path, PROGRAM, {}, "d1")
    assert "scontrol" not in plain
    assert plain.splitlines()[-1].endswith(f"--kill-on-bad-exit=1 {sys.executable} {step}")
    contained = site(
        "cluster=a100",
        "cluster.container='apptainer exec --nv $IMAGES/a.sif'",
        "cluster.python=/opt/bin/python",
        "cluster.srun=['--cpu-bind=none']",
    )
    text = script_of(Batch((tune,)), "name", tmp_path, contained, None, tmp_path, PROGRAM, {}, "d1")
    call = f"--kill-on-bad-exit=1 --cpu-bind=none apptainer exec --nv $IMAGES/a.sif /opt/bin/python {step}"
    *_, last = (line for line in text.splitlines() if line.startswith("srun"))
    assert last.endswith(call), text


@pytest.mark.parametrize(("minutes", "seconds"), [(77, 120), (2, 60)])
def test_the_signal_of_the_time_limit_is_ours_and_leaves_time_before_it(
    experiment: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: int, seconds: int
) -> None:
    """Also where SUBMITIT_PREEMPT_SIGNAL names another one."""
    monkeypatch.setattr("submitit.slurm.slurm.SlurmJobEnvironment.USR_SIG", "USR1")
    cluster = site("cluster=a100", f"cluster.steps.tune.timeout_min={minutes}")
    (tune,) = (step for step in graph(experiment, "seed=0") if step.kind == "tune")
    lines = script_of(Batch((tune,)), "n", tmp_path, cluster, None, tmp_path, PROGRAM, {}, "d1").splitlines()
    assert [line for line in lines if line.startswith("#SBATCH --signal")] == [f"#SBATCH --signal=USR2@{seconds}"]


def test_what_other_ranks_left_behind_does_not_reach_a_job(experiment: Composed, tmp_path: Path) -> None:
    """But what the site's config says does."""
    cluster = site("cluster=a100", "+cluster.environment.MASTER_ADDR=here", "cluster.setup=[module load cuda]")
    (tune,) = (step for step in graph(experiment, "seed=0") if step.kind == "tune")
    text = script_of(Batch((tune,)), "n", tmp_path, cluster, None, tmp_path, PROGRAM, {}, "d1")
    lines = text.splitlines()
    unset = next(line for line in lines if line.startswith("unset "))
    assert {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"} <= set(unset.split())
    assert lines.index(unset) < lines.index("module load cuda") < lines.index("export MASTER_ADDR=here")
    assert "export SLURM_EXPORT_ENV=ALL" in lines
