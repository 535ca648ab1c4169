"""A sweep on a real SLURM: from one command to a table, whatever happens on the way."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm.lab.lab import Lab
from tests.slurm.conftest import REPOSITORY, Sweep, wait_for

THREE = ["dataset=digits", "seed=0,1", "target=cnn_small,cnn"]


def results(root: Path) -> list[dict[str, object]]:
    found = list(root.glob("sweeps/*/results.json"))
    return json.loads(found[0].read_text()) if found else []


def done(root: Path) -> bool:
    return bool(list(root.glob("sweeps/*/DONE")))


def queue() -> list[str]:
    command = ["squeue", "--noheader", "--all", "--format=%i %j %T %r"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def status(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "neurogen.status", str(folder), *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_sweep_goes_from_one_command_to_a_table(sweep: Sweep, tmp_path: Path) -> None:
    """Four points, two of each target; the command returns at once, and again does nothing."""
    first = sweep(*THREE)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "4 points" in first.stdout
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    assert len(list((folder / "configs").iterdir())) == 4
    scripts = list((tmp_path / "runs" / "queue").glob("*/job.sh"))
    assert len(scripts) == 4 * 4 + 1  # per point networks, inject, tune, evaluate; and one aggregation
    wait_for("the table", lambda: done(tmp_path / "runs"))
    rows = results(tmp_path / "runs")
    assert [(row["target"], row["n_ok"], row["n_expected"]) for row in rows] == [("cnn_small", 4, 4), ("cnn", 4, 4)]

    overview = json.loads(status(folder, "--json").stdout)
    assert {step["state"] for step in overview["steps"]} == {"done"}
    again = sweep(*THREE)
    assert "0 submitted" in again.stdout, again.stdout + again.stderr
    assert len(list((tmp_path / "runs" / "queue").glob("*/job.sh"))) == len(scripts)


def test_the_same_command_twice_submits_nothing_twice(sweep: Sweep, tmp_path: Path) -> None:
    """While the first is in the queue, and from another sweep that shares a zoo."""
    assert sweep("zoo.training.epochs=4").returncode == 0
    second = sweep("zoo.training.epochs=4")
    assert "0 submitted" in second.stdout, second.stdout + second.stderr
    other = sweep("zoo.training.epochs=4", "recipe.tune.steps=9,10")
    assert re.search(r"tune +2 steps", other.stdout), other.stdout + other.stderr
    assert not re.search(r"(reference|classical|inject) +\d+ steps", other.stdout), other.stdout
    wait_for("both tables", lambda: len(list((tmp_path / "runs").glob("sweeps/*/DONE"))) == 2)
    assert len(list((tmp_path / "runs").glob("inject/*/DONE"))) == 1


def test_a_failure_stops_only_what_hangs_on_it(sweep: Sweep, tmp_path: Path) -> None:
    """One of two points cannot work; the other is in a partial table, and the reason in status."""
    arguments = ["recipe.tune.lr=1e-3,1e30", "recipe.tune.clip_norm=1e30"]
    assert sweep(*arguments).returncode == 0
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    wait_for("the partial table", lambda: results(tmp_path / "runs"))
    wait_for(
        "the end", lambda: not [line for line in queue() if ("ng-" in line and "PENDING" in line) or "RUNNING" in line]
    )
    (row,) = results(tmp_path / "runs")
    assert (row["status"], row["n_ok"], row["n_expected"]) == ("incomplete", 2, 4)
    assert not (folder / "DONE").exists()
    steps = json.loads(status(folder, "--json").stdout)["steps"]
    failed = {step["kind"]: step["why"] for step in steps if step["state"] == "failed"}
    assert "the loss is nan" in failed["tune"]
    assert "cancelled" in failed["evaluate"]
    assert "1 of 2 evaluations are missing" in failed["sweeps"]
    again = sweep(*arguments)
    assert re.search(r"tune +1 steps", again.stdout), again.stdout
    assert not re.search(r"(reference|inject) +\d+ steps", again.stdout), again.stdout


def test_waiting_gives_the_accuracy_to_the_sweeper(sweep: Sweep, tmp_path: Path) -> None:
    process = sweep("seed=0", "hydra.launcher.wait=true")
    assert process.returncode == 0, process.stderr
    assert done(tmp_path / "runs")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cluster.partition=nowhere"], "set cluster.partition (now nowhere)"),
        (["cluster.steps.default.mem_gb=9999"], "lower cluster.steps.default"),
        (["cluster.steps.default.nodes=0"], "cluster.steps.default.nodes=0 must be a number, at least 1"),
        (["+cluster.colour=red"], "unknown colour; allowed: account"),
    ],
)
def test_what_the_site_refuses_is_said_in_one_line(
    sweep: Sweep, tmp_path: Path, arguments: list[str], message: str
) -> None:
    process = sweep(*arguments)
    assert process.returncode == 1
    assert message in process.stderr
    assert "Traceback" not in process.stderr
    assert [line for line in queue() if "ng-" in line and "PENDING" in line] == []


def test_a_submission_that_was_interrupted_is_completed(sweep: Sweep, tmp_path: Path, lab: Lab) -> None:
    """sbatch is killed half-way: after it was heard and before its answer was written down, and before it was heard."""
    real = subprocess.run(["which", "sbatch"], capture_output=True, text=True, check=True).stdout.strip()
    wrapper = tmp_path / "bin" / "sbatch"
    wrapper.parent.mkdir()
    calls = tmp_path / "calls"
    wrapper.write_text(
        f"#!/bin/sh\necho call >> {calls}\n"
        f'if [ $(wc -l < {calls}) = 2 ]; then {real} "$@"; kill -9 $PPID; fi\nexec {real} "$@"\n'
    )
    wrapper.chmod(0o755)
    killed = sweep(PATH=f"{wrapper.parent}:{os.environ['PATH']}")
    assert killed.returncode == -9
    again = sweep()
    assert again.returncode == 0, again.stderr
    wait_for("the table", lambda: done(tmp_path / "runs"))
    names = [path.parent.name for path in (tmp_path / "runs" / "queue").glob("*/record.json")]
    kinds = sorted(name.split("-")[1] for name in names)
    assert kinds == ["evaluate", "inject", "reference", "sweeps", "tune"]


def test_an_ambiguous_answer_is_not_a_second_job(sweep: Sweep, tmp_path: Path) -> None:
    """The controller took the job and the answer timed out: the job is found by its name."""
    real = subprocess.run(["which", "sbatch"], capture_output=True, text=True, check=True).stdout.strip()
    wrapper = tmp_path / "bin" / "sbatch"
    wrapper.parent.mkdir()
    calls = tmp_path / "calls"
    wrapper.write_text(
        f'#!/bin/sh\necho call >> {calls}\nif [ $(wc -l < {calls}) = 1 ]; then {real} "$@" > /dev/null; fi\n'
        f"if [ $(wc -l < {calls}) -le 2 ] && [ ! -e {calls}.said ]; then touch {calls}.said; "
        'echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1; fi\n'
        f'exec {real} "$@"\n'
    )
    wrapper.chmod(0o755)
    process = sweep(PATH=f"{wrapper.parent}:{os.environ['PATH']}")
    assert process.returncode == 0, process.stderr
    assert "asking whether" in process.stderr
    assert len(calls.read_text().splitlines()) == 5  # networks, inject, tune, evaluate, aggregation
    wait_for("the table", lambda: done(tmp_path / "runs"))


def test_cancelled_and_run_again(sweep: Sweep, tmp_path: Path) -> None:
    assert sweep("zoo.training.epochs=400").returncode == 0
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    wait_for("something to run", lambda: any("ng-reference" in line and "RUNNING" in line for line in queue()))
    cancelled = status(folder, "--cancel")
    assert cancelled.returncode == 0, cancelled.stderr
    wait_for("the queue to be empty", lambda: not [line for line in queue() if "ng-" in line and "ED" not in line])
    time.sleep(1)
    states = {step["state"] for step in json.loads(status(folder, "--json").stdout)["steps"]}
    assert "running" not in states
    assert "pending" not in states
