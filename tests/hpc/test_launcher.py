"""From one command to jobs: what is printed, previewed and refused."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from hpc.jobs.launcher import launch, show
from hpc.jobs.queue import new_record
from hpc.jobs.site_check import KIND
from hpc.jobs.state import State
from hpc.jobs.status import Overview, StepStatus
from hpc.jobs.submission import Submitted
from hpc.jobs.sweep import Sweep
from hpc.jobs.waiting import failed_checks
from neurogen.errors import UserError
from neurogen.sweep import require_one_runtime
from tests.conftest import TINY, Program, error_line, tiny
from tests.hpc.conftest import Composed, site, sweep_of


def test_other_code_in_the_queue_is_reported(
    experiment: Composed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = sweep_of(experiment, tmp_path)
    old = new_record("a", "tune", [("tune-1", "", tmp_path)], code="0ld")
    show(sweep, Submitted(new=(), in_flight={"tune-1": old}, done=(), code="new"))
    assert "some run other code than this submission's: 0ld" in capsys.readouterr().out
    show(sweep, Submitted(new=(), in_flight={"tune-1": old}, done=(), code="0ld"))
    assert "other code" not in capsys.readouterr().out


def fetching(*_: object) -> Sweep:
    """A plan whose sweep has nothing to run from."""
    experiment = tiny(Path("nowhere"))
    sweep = sweep_of(lambda *_: experiment, Path("nowhere"))
    return replace(sweep, stop_after="fetch", fetch=lambda: print("fetched"))


@pytest.mark.parametrize("where", ["slurm", "local"])
def test_a_launcher_that_stops_after_fetching_runs_nothing(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    (point,) = launch(where, f"{__name__}.fetching", [{}], [[]], asdict(site()), wait=True)
    assert capsys.readouterr().out == "fetched\n"
    assert point.return_value is None
    assert not Path("nowhere").exists()


@pytest.mark.parametrize("fetch", ["true", "false"])
def test_jobs_know_where_data_and_models_are_and_whether_to_download(
    program: Program, tmp_path: Path, fetch: str
) -> None:
    words = [
        *TINY,
        "hydra/launcher=slurm",
        "dry_run=true",
        f"fetch={fetch}",
        "+cluster.environment.HF_HOME=/scratch/hf",
    ]
    process = program("run", "-m", *words, NEUROGEN_CACHE="cache", PATH=str(tmp_path))
    lines = process.stdout.splitlines()
    assert ("export HF_HUB_OFFLINE=1" in lines) is (fetch == "true"), process.stdout + process.stderr
    for expected in ("HF_HOME=/scratch/hf", "HF_HUB_CACHE=/scratch/hf/hub", f"NEUROGEN_CACHE={tmp_path}/cache"):
        assert f"export {expected}" in lines


def test_a_preview_shows_graph_scripts_and_estimates(program: Program, tmp_path: Path) -> None:
    """The user's command as it stands: the paper's backbones, on A100s. No scheduler and no model is asked."""
    arguments = ["-m", "dataset=mnist,sst2", "hydra/launcher=slurm", "dry_run=true", "cluster.steps.inject.mem_gb=null"]
    process = program("run", *arguments, PATH=str(tmp_path))
    assert process.returncode == 0, process.stderr
    assert "2 points, 12 steps, 0 of them done; 12 jobs to submit" in process.stdout
    for expected in (
        r"0 +1 +1 +1 +2 +8 +10 +check 1-node-1-gpu",
        r"1 +1 +1 +0 +2 +8 +10 +check 1-node ",
        r"2 +2 +0, 1 +1 +1 +2 +32 +120 +reference mnist-lenet-shared",
        r"3 +1 +0, 1, 2 +1 +1 +8 +– +480 +inject",
        r"11 +1 +everything .*sweeps mnist\+sst2-2-points",
        r"srun --label --kill-on-bad-exit=0 sh -c",
        r"#SBATCH --dependency=afterok:JOB0:JOB1,afterany:JOB2:JOB3",
        r"#SBATCH --array=0-1%2",
        r"mnist-lenet-qwen2_vl_7b-fast .* A100 80GB",
        r"sst2-mlp-llama3_8b-fast",
        r"inject +│ +2 │ +0 │ .* estimate \(2\)",
        r"In all [\d.]+ (min|h) to come",
    ):
        assert re.search(expected, process.stdout), (expected, process.stdout)
    assert not (tmp_path / "runs" / "queue").exists()


def test_no_sbatch_says_what_to_do(program: Program, tmp_path: Path) -> None:
    process = program("run", "-m", *TINY, "seed=0,1", "hydra/launcher=slurm", PATH=str(tmp_path))
    assert process.returncode == 1
    assert "there is no sbatch on this machine" in process.stderr
    assert "Traceback" not in process.stderr


def test_the_config_of_a_whole_sweep_is_refused_in_one_line(program: Program) -> None:
    process = program("run", "-m", "seed=0,1", "hydra/launcher=slurm", "--cfg", "job")
    assert error_line(process).startswith("error: --cfg shows the config of one point; leave out -m")


def test_a_part_of_a_sweep_is_refused_in_one_line(program: Program) -> None:
    process = program("run", "-m", "seed=0,1", "num_parts=2")
    assert error_line(process).startswith("error: part=0 num_parts=2 chooses among the steps of a single run")


@pytest.mark.parametrize("words", [["-m", "seed=0,1"], []])
def test_a_check_without_a_cluster_is_refused(program: Program, words: list[str]) -> None:
    line = error_line(program("run", *words, *TINY, "stop_after=check"))
    assert "stop_after=check looks at the nodes of a cluster; add " in line


PLANNING = """
import sys
from hydra import compose, initialize_config_dir
import hpc.jobs.launcher, hpc.jobs.status, hpc.jobs.submission
from neurogen.run import conf_folder
from neurogen.sweep import plan
with initialize_config_dir(conf_folder(), version_base="1.3"):
    sweep = plan([compose("config", ["dataset=digits", "backbone=tiny_llama"])], [[]])
assert len(sweep.steps) == 6
assert "torch" not in sys.modules
"""


def test_planning_a_sweep_imports_no_torch() -> None:
    """So that a submission takes a second, and not five."""
    subprocess.run([sys.executable, "-c", PLANNING], check=True)


def test_points_cannot_run_in_different_ways(experiment: Composed) -> None:
    """Their jobs share what says how; nothing of it is dropped without a word."""
    for name, values in (("batch_tokens", (2048, 256)), ("deterministic", ("true", "false")), ("num_threads", (0, 1))):
        points = [experiment(f"{name}={value}") for value in values]
        with pytest.raises(UserError, match=f"{name} differs between points of this sweep .*; give it one value"):
            require_one_runtime(points)
        require_one_runtime(points[:1] * 2)


@pytest.mark.parametrize(("silence", "is_failed"), [("squeue: no answer", False), ("", True)])
def test_a_check_that_nobody_can_ask_for_has_not_failed(tmp_path: Path, silence: str, is_failed: bool) -> None:
    unknown = StepStatus("check-1", KIND, "1 node", State.UNKNOWN, "", 0.0, 0.0, 0.0, "7", "")
    assert bool(failed_checks(Overview(tmp_path, "", (unknown,), (), None, silence))) is is_failed
