"""The sbatch templates, run as they stand: the same artifacts without the launcher."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.lab.lab import Lab
from tests.conftest import TINY
from tests.slurm.conftest import REPOSITORY, active, clear_queue, done, results, wait_for


@pytest.fixture
def site(lab: Lab, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A folder with nothing but the templates, and what env.sh asks for."""
    shutil.copytree(REPOSITORY / "slurm", tmp_path / "slurm", ignore=shutil.ignore_patterns("lab"))
    options = "--mem=1500M --cpus-per-task=1 --time=10"
    yield os.environ | {"NEUROGEN_VENV": sys.prefix, "NEUROGEN_SBATCH": options, "HF_HUB_OFFLINE": "1"}
    clear_queue()


def test_the_chain_of_templates_makes_the_table(site: dict[str, str], tmp_path: Path) -> None:
    """Both stages over two nodes."""
    shared = ["zero=stage2", "recipe.inject.contexts_per_step=2", "recipe.tune.contexts_per_step=2"]
    overrides = [*TINY, *shared, f"root={tmp_path}/runs", "zoo.chunk_size=1"]
    site |= {"NEUROGEN_TUNE_SBATCH": "--nodes=2"}
    process = subprocess.run(
        ["slurm/sweep.sh", *overrides], cwd=tmp_path, env=site, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert re.search(r"^checks \d+ \d+\nnetworks \d+, stages \d+, table \d+\n\Z", process.stdout, re.MULTILINE)
    wait_for("the table", lambda: done(tmp_path / "runs") or not active())
    logs = "\n".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert done(tmp_path / "runs"), logs
    (row,) = results(tmp_path / "runs")
    assert (row["n_ok"], row["populations"]["zoo"]["n"]) == (2, 3), logs
    assert len(list(tmp_path.glob("neurogen-reference-*_*.log"))) == 2  # an array of two
    (environment,) = (tmp_path / "runs").glob("tune/*/environment.json")
    assert json.loads(environment.read_text())["ranks"] == 2
    reports = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("check/*/report.json")]
    assert sorted(len(report["ranks"]) for report in reports) == [1, 2]
    assert {report["problem"] for report in reports} == {""}


def test_a_task_that_is_stopped_goes_back_into_the_queue(site: dict[str, str], tmp_path: Path) -> None:
    """Once, as is allowed here. SLURM sends its steps the same signal before the time limit."""
    options = ["--array=0", "--time=10", "--mem=1500M", "--cpus-per-task=1"]
    endless = ["zoo.training.epochs=100000", "classical.training.epochs=100000", f"root={tmp_path}/runs"]
    command = ["sbatch", "--parsable", *options, "slurm/reference.sbatch", *TINY, *endless]
    environment = {**site, "NEUROGEN_MAX_REQUEUES": "1"}
    process = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    job = f"{process.stdout.strip()}_0"
    log = tmp_path / f"neurogen-reference-{job}.log"
    for start in (1, 2):
        wait_for("its work", lambda: log.exists() and log.read_text().count("data digits") == start, 900)  # noqa: B023
        subprocess.run(["scancel", "--signal=TERM", job], check=True)
    wait_for("the end", lambda: not active())
    text = log.read_text()
    assert text.count("stopped before its end, back into the queue") == 1, text
    assert text.count("error: stopped before its end, after 1 restarts") == 1, text


def test_tensorboard_on_a_node_says_how_to_reach_it(site: dict[str, str], tmp_path: Path) -> None:
    command = ["sbatch", "--parsable", "--mem=1500M", "slurm/tensorboard.sbatch", str(tmp_path)]
    job = subprocess.run(command, cwd=tmp_path, env=site, capture_output=True, text=True, check=True).stdout.strip()
    log = tmp_path / f"neurogen-tensorboard-{job}.log"
    try:
        wait_for("the line", lambda: log.exists() and log.read_text().count("\n") >= 2)
        assert "http://localhost" in log.read_text(), log.read_text()
        tunnel, port = re.findall(r"ssh -N -J \S+@\S+ -L (\d+):localhost:(\d+) \S+@\S+", log.read_text())[0]
        assert tunnel == port

        def answers() -> bool:
            try:
                return b"TensorBoard" in urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=5).read()
            except OSError:
                return False

        wait_for("the page", answers)
        listening = re.findall(rf": (\w+):{int(port):04X} 0+:0000 0A", Path("/proc/net/tcp").read_text("utf-8"))
        assert listening == ["0100007F"]  # 127.0.0.1
        assert f":{int(port):04X} " not in Path("/proc/net/tcp6").read_text("utf-8")
    finally:
        subprocess.run(["scancel", job], check=True)


@pytest.mark.parametrize("template", ["reference", "tune", "aggregate"])
@pytest.mark.parametrize(
    ("status", "restarts", "tasks", "is_back"),
    [
        (130, 0, 1, True),
        (143, 0, 1, True),
        (130, 0, 2, True),
        (143, 0, 2, False),  # srun ends the others where one has failed
        (130, 5, 1, False),
        (1, 0, 1, False),
    ],
)
def test_a_job_that_is_stopped_before_its_end_goes_back_into_the_queue(
    template: str, status: int, restarts: int, tasks: int, is_back: bool, tmp_path: Path
) -> None:
    """As often as is allowed. Of an array that task alone; a command that fails does not."""
    calls = tmp_path / "calls"
    for name, line in (("srun", f"exit {status}"), ("scontrol", f'echo "$@" >> {calls}'), ("python", "")):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": str(restarts), "SLURM_SUBMIT_DIR": str(REPOSITORY)}
    job |= {"SLURM_NTASKS": str(tasks)}
    if template == "reference":
        job |= {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2"}
    process = subprocess.run(
        ["bash", REPOSITORY / "slurm" / f"{template}.sbatch", *TINY],
        env={**os.environ, "NEUROGEN_VENV": str(tmp_path), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", **job},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == status, process.stderr
    expected = "requeue 7_1\n" if template == "reference" else "requeue 7\n"
    assert (calls.read_text() if calls.exists() else "") == (expected if is_back else "")


def test_shellcheck_has_nothing_to_say() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    scripts = sorted([*REPOSITORY.glob("slurm/*.sbatch"), *REPOSITORY.glob("slurm/*.sh")])
    assert len(scripts) == 7
    done = subprocess.run(
        ["shellcheck", "-x", *map(str, scripts)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
