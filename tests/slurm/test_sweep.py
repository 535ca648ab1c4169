"""A sweep on a real SLURM: from one command to a table, beside other sweeps, and under a sweeper that waits."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from slurm.lab.lab import Lab
from tests.conftest import files_with_secrets
from tests.slurm.conftest import (
    PLUGINS,
    REPOSITORY,
    TWO_TARGETS,
    Finished,
    Sweep,
    active,
    queue,
    results,
    states,
    status,
    submission,
    wait_for,
    wrapped,
)


def test_a_sweep_goes_from_one_command_to_a_table(finished: Finished) -> None:
    root, command = finished.root, finished.command
    assert "2 points, 11 steps: 0 done, 0 in the queue already, 11 submitted" in command.stdout
    (folder,) = (root / "sweeps").iterdir()
    assert len(list((folder / "configs").iterdir())) == 2
    scripts = list((root / "queue").glob("*/job.sh"))
    assert len(scripts) == 1 + 2 * 4 + 1  # site check; per point networks, inject, tune, evaluate; aggregation
    (check,) = (root / "queue").glob("ng-check-*/record.json")
    behind_it = f"--dependency=afterok:{json.loads(check.read_text())['job_id']}"
    assert sum(behind_it in script.read_text() for script in scripts) == len(scripts) - 1
    rows = results(root)
    assert [(row["target"], row["n_ok"], row["n_expected"]) for row in rows] == [("cnn_small", 2, 2), ("cnn", 2, 2)]
    assert (folder / "comparison.png").stat().st_size > 5000
    assert set(states(folder).values()) == {"done"}

    again = subprocess.run(**submission(root.parent, *TWO_TARGETS), timeout=300, check=False)
    assert "0 submitted" in again.stdout, again.stdout + again.stderr
    assert len(list((root / "queue").glob("*/job.sh"))) == len(scripts)


def test_no_file_of_a_sweep_has_a_secret_of_the_environment(finished: Finished) -> None:
    assert list(finished.root.glob("queue/*/job.sh"))
    assert not files_with_secrets(finished.root)


def test_two_people_at_once_share_what_is_equal(sweep: Sweep, tmp_path: Path, lab: Lab) -> None:
    """Two sweeps over one root, submitted at the same moment: one zoo, one stage 1. A third changes nothing."""
    root = tmp_path / "runs"
    commands = [[f"recipe.tune.steps={steps}"] for steps in ("9", "10,11")]
    running = [subprocess.Popen(**submission(tmp_path, *command)) for command in commands]
    texts = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0], texts
    wait_for("both tables", lambda: len(list(root.glob("sweeps/*/DONE"))) == 2)
    assert len(list(root.glob("tune/*/DONE"))) == 3
    kinds = [path.parent.name.split("-")[1] for path in (root / "queue").glob("*/record.json")]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "reference": 1, "inject": 1, "tune": 3, "evaluate": 3, "sweeps": 2,
    }  # fmt: skip
    assert (
        sum(len(json.loads(path.read_text())["steps"]) for path in (root / "queue").glob("*reference*/record.json"))
        == 2
    )


def test_a_sweeper_reads_what_it_waited_for(finished: Finished, sweep: Sweep, tmp_path: Path) -> None:
    finished.give(tmp_path / "runs", "reference", "classical", "inject")
    process = sweep("hydra/sweeper=climber", "hydra.launcher.wait=true", PYTHONPATH=str(PLUGINS))
    assert process.returncode == 0, process.stderr
    tried = dict(re.findall(r"(recipe\.tune\.steps=\d):([\d.]+)", process.stdout))
    (best,) = re.findall(r"CLIMBER best (\S+) ([\d.]+)", process.stdout)
    assert len(tried) == 2, process.stdout
    assert best == max(tried.items(), key=lambda item: float(item[1]))
    assert len(list((tmp_path / "runs").glob("sweeps/*/DONE"))) == 2


def test_without_a_plan_it_is_an_ordinary_launcher(lab: Lab, tmp_path: Path) -> None:
    """One job per point, submitted by submitit."""
    command = [sys.executable, str(PLUGINS.parent / "planless.py"), "-m", "hydra/launcher=study_slurm", "+number=1,2"]
    options = ["hydra.launcher.timeout_min=5", "hydra.launcher.mem_gb=1", f"hydra.sweep.dir={tmp_path}"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    process = subprocess.run(
        [*command, *options], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert process.returncode == 0, process.stderr
    text = "".join(path.read_text() for path in tmp_path.glob(".submitit/*/*.out"))
    assert sorted(re.findall(r"JOB \d+ (\d)", text)) == ["1", "2"], text


def test_status_asks_the_scheduler_twice_and_needs_no_accounting(sweep: Sweep, tmp_path: Path) -> None:
    """With five jobs in the queue; where sacct fails, squeue is enough."""
    root = tmp_path / "runs"
    assert sweep("zoo.training.epochs=400").returncode == 0
    (folder,) = (root / "sweeps").iterdir()
    wait_for("something to run", lambda: any("ng-reference" in line and "RUNNING" in line for line in queue()))
    calls = tmp_path / "calls"
    path = wrapped(tmp_path, "squeue", f'echo squeue "$@" >> {calls}; exec REAL "$@"')
    wrapped(tmp_path, "sacct", f"echo sacct >> {calls}; echo 'no accounting' >&2; exit 1")
    seen = json.loads(status(folder, "--json", PATH=path).stdout)["steps"]
    sacct, squeue = sorted(calls.read_text().splitlines())
    assert (sacct, squeue.split()[0], squeue.split()[-1]) == ("sacct", "squeue", "--user=0")
    assert {step["kind"]: step["state"] for step in seen} == {
        "reference": "running", "classical": "running", "inject": "pending", "tune": "pending", "evaluate": "pending",
        "sweeps": "pending",
    }  # fmt: skip
    assert next(step["reason"] for step in seen if step["kind"] == "tune") == "Dependency"
    table = status(folder).stdout
    assert re.search(r"tune +0 +0 +1", table), table

    wait_for("the log", lambda: any("reference-" in path.read_text() for path in root.glob("queue/*/*.out")))
    cancelled = status(folder, "--cancel")
    assert cancelled.returncode == 0, cancelled.stderr
    wait_for("an empty queue", lambda: not active())
    assert not {"running", "pending"} & set(states(folder).values())
    log = status(folder, "--logs", "reference", PATH=wrapped(tmp_path, "tail", 'for last; do :; done; cat "$last"'))
    assert "reference-" in log.stdout, log.stdout + log.stderr
