"""What goes wrong on a real SLURM: steps and nodes that fail, what the site refuses, a controller that is silent."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from slurm.lab.lab import Lab
from tests.slurm.conftest import (
    HELD,
    Finished,
    Sweep,
    active,
    queue,
    reasons,
    release,
    results,
    wait_for,
)

ZOO = ("reference", "classical", "inject")
STEPS_OF_A_POINT = (*ZOO, "tune", "evaluate")


@pytest.mark.parametrize(("kill", "given"), [("true", ZOO), ("false", STEPS_OF_A_POINT)])
def test_a_failure_stops_only_what_hangs_on_it(
    finished: Finished, sweep: Sweep, tmp_path: Path, kill: str, given: Sequence[str]
) -> None:
    """One of two points cannot work; the other is in a partial table. Also where the site cancels no dependants."""
    finished.give(tmp_path / "runs", *given)
    arguments = ["recipe.tune.lr=5e-4,1e30", f"cluster.kill_on_invalid_dep={kill}"]
    assert sweep(*arguments).returncode == 0
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    wait_for("the partial table", lambda: results(tmp_path / "runs"))
    wait_for("the end", lambda: not active())
    rows = {row["settings"]: (row["status"], row["n_ok"]) for row in results(tmp_path / "runs")}
    assert rows == {"recipe.tune.lr=0.0005": ("ok", 2), "recipe.tune.lr=1e+30": ("incomplete", 0)}
    assert not (folder / "DONE").exists()
    failed = reasons(folder)
    assert "the loss is nan" in failed["tune"]
    assert re.fullmatch(r"needs tune-\w+", failed["evaluate"]), failed
    assert "1 of 2 evaluations are missing" in failed["sweeps"]
    again = sweep(*arguments)
    assert re.search(r"tune +1 steps", again.stdout), again.stdout
    assert not re.search(r"(reference|inject) +\d+ steps", again.stdout), again.stdout


def test_a_node_that_failed_is_left_out(sweep: Sweep, tmp_path: Path, lab: Lab) -> None:
    arguments = ["zoo.training.epochs=100000", "classical.training.epochs=100000"]
    arguments += ["+cluster.additional.requeue=false", "+cluster.additional.no_requeue=true"]
    assert sweep(*arguments).returncode == 0
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    wait_for("the networks", lambda: any("ng-reference" in line and "RUNNING" in line for line in queue()))
    (node,) = {line.split()[-1] for line in queue() if "RUNNING" in line}
    subprocess.run(["scontrol", "update", f"nodename={node}", "state=down", "reason=test"], check=True)
    try:
        wait_for("the end", lambda: not active())
        assert reasons(folder)["reference"] == f"{node} failed; run again leaves it out"
        assert sweep(*arguments).returncode == 0
    finally:
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=False)
    script = max((tmp_path / "runs" / "queue").glob("ng-reference*/job.sh"), key=lambda path: path.stat().st_mtime)
    assert f"#SBATCH --exclude={node}" in script.read_text().splitlines()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cluster.partition=nowhere"], "set cluster.partition (now nowhere)"),
        (["cluster.steps.default.mem_gb=9999"], "lower cluster.steps.default"),
        (["cluster.steps.default.timeout_min=9999"], "lower cluster.steps.default.timeout_min"),
        (["cluster.steps.default.nodes=0"], "cluster.steps.default.nodes=0 must be at least 1"),
        (["+cluster.colour=red"], "unknown colour; allowed: account"),
        (["dataset.load=nowhere.load"], "dataset.load=nowhere.load is no importable function"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(sweep: Sweep, tmp_path: Path, arguments: list[str], message: str) -> None:
    process = sweep(*arguments)
    assert process.returncode == 1
    assert message in process.stderr
    assert "Traceback" not in process.stderr
    assert not active()


def test_a_folder_that_nodes_do_not_see_is_named(sweep: Sweep, tmp_path: Path) -> None:
    """What sbatch cannot know: nobody wrote a log, or a sign of life."""
    assert sweep("zoo.training.epochs=4", HELD).returncode == 0
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    queued = tmp_path / "runs" / "queue"
    queued.rename(tmp_path / "elsewhere")
    release()
    wait_for("the end", lambda: not active())
    (tmp_path / "elsewhere").rename(queued)
    assert re.search(r"before it began: does n\d see .*, and this Python", reasons(folder)["reference"])


def test_what_another_account_wrote_is_not_run(sweep: Sweep, tmp_path: Path) -> None:
    """The root is shared, and somebody has put a payload in the place of ours."""
    assert sweep("zoo.training.epochs=4", HELD).returncode == 0
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    for payload in (tmp_path / "runs" / "queue").glob("*/payload.json"):
        os.chown(payload, 4711, -1)
    release()
    wait_for("the end", lambda: not active())
    assert "belongs to the account 4711, and this is 0; a job runs nothing of others" in reasons(folder)["reference"]
    assert not (tmp_path / "runs" / "reference").exists()
