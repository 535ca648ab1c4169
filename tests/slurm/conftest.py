"""A real SLURM for the tests in this folder: slurm/lab, two nodes on this machine.

Where it cannot run, the tests are skipped, with the reason. What is expensive is shared: one cluster for all tests, and
one finished sweep, whose steps other tests take over instead of training the same networks again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slurm.lab.lab import Lab
from tests.conftest import PLANTED, TINY, FinishedRun
from tests.faults.jobs import content_of, differences

REPOSITORY = Path(__file__).parents[2]
PLUGINS = Path(__file__).parent / "plugins"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slurm)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The running cluster. While it lives, SLURM_CONF is set, and waiting sweeps look at its queue every second."""
    if os.geteuid() != 0:
        pytest.skip("a SLURM of our own needs root")
    cluster = Lab(tmp_path_factory.mktemp("lab"), nodes=2)
    if cluster.missing:
        pytest.skip(f"{', '.join(cluster.missing)} not installed; run `slurm/lab/lab.py install` first")
    cluster.accounting = not Lab(cluster.folder, accounting=True).missing
    cluster.start()
    environment = {**cluster.environment, "NEUROGEN_POLL_S": "1"}
    os.environ.update(environment)
    yield cluster
    for name in environment:
        del os.environ[name]
    cluster.stop()


Sweep = Callable[..., "subprocess.CompletedProcess[str]"]

# What the lab's nodes can give; its GPUs are fake, so nothing asks for one.
SMALL = [
    *TINY,
    "hydra/launcher=slurm",
    "cluster=here",
    "cluster.array_parallelism=4",
    "cluster.steps.default.mem_gb=1.5",
    "cluster.steps.default.timeout_min=10",
    "site_check=false",  # a job more in front of every sweep; `finished` and test_site_check.py have it
]

# Jobs that run and use no processor, for tests that look only at the queue.
ASLEEP = ["cluster.setup=['sleep 600']"]


HELD = "+cluster.additional.hold=true"  # no job begins before `release`


def submission(folder: Path, *arguments: str, before: Sequence[str] = (), **environment: str) -> dict[str, Any]:
    """What subprocess needs to run `python -m neurogen.run -m …` on the lab, with its root in `folder`."""
    return {
        "args": [*before, sys.executable, "-m", "neurogen.run", "-m", *SMALL, f"root={folder}/runs", *arguments],
        "cwd": REPOSITORY,
        "env": os.environ | {"HF_HUB_OFFLINE": "1"} | environment,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }


@pytest.fixture
def sweep(lab: Lab, tmp_path: Path) -> Iterator[Sweep]:
    """sweep("key=a,b", …) → the finished `python -m neurogen.run -m …` on the lab, under a root of its own."""

    def submitted(*arguments: str, before: Sequence[str] = (), **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            **submission(tmp_path, *arguments, before=before, **environment), timeout=600, check=False
        )

    yield submitted
    clear_queue()


@dataclass(frozen=True)
class Finished:
    """A sweep that is done."""

    root: Path
    command: subprocess.CompletedProcess[str]  # which submitted it

    def give(self, root: Path, *kinds: str) -> None:
        """Copy its steps of these kinds to another root, where they are done then."""
        for kind in kinds:
            shutil.copytree(self.root / kind, root / kind)


TWO_TARGETS = ["dataset=digits", "target=cnn_small,cnn"]


@pytest.fixture(scope="session")
def finished(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A sweep of two points. Submitted inside a job, whose own resources must not leak; the sweep outlives the job."""
    folder = tmp_path_factory.mktemp("finished")
    inside = ["srun", "--ntasks=1", "--mem=1500M", "--quiet"]
    how = submission(
        folder, *TWO_TARGETS, "site_check=true", before=inside, SBATCH_PARTITION="nowhere", SLURM_NTASKS="3", **PLANTED
    )
    command = subprocess.run(**how, timeout=600, check=False)
    assert command.returncode == 0, command.stdout + command.stderr
    wait_for("the table", lambda: done(folder / "runs"))
    return Finished(folder / "runs", command)


def results(root: Path) -> list[dict[str, Any]]:
    """The rows of the table; none while there is no table."""
    paths = list(root.glob("sweeps/*/results.json"))
    return json.loads(paths[0].read_text()) if paths else []


def done(root: Path, kind: str = "sweeps") -> bool:
    """Whether a step of this kind is done."""
    return bool(list(root.glob(f"{kind}/*/DONE")))


def differing_steps(root: Path, tiny_run: FinishedRun) -> list[str]:
    """The files of a sweep's steps that differ from those of the run that nothing disturbed; without tables."""
    differing = differences(content_of(root), content_of(tiny_run.folder / "runs"))
    return [name for name in differing if not name.startswith("sweeps")]


def queue() -> list[str]:
    """Job, name, state, reason, node."""
    command = ["squeue", "--noheader", "--all", "--format=%i %j %T %r %N"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def jobs_of(root: Path, kind: str = "*") -> set[str]:
    """The ids of the jobs under this root that still wait or run."""
    records = [json.loads(path.read_text()) for path in root.glob(f"queue/ng-{kind}-*/record.json")]
    return {record["job_id"] for record in records} & {line.split()[0].split("_")[0] for line in active()}


def clear_queue() -> None:
    """Cancel all jobs and wait until they have ended."""
    if jobs := {line.split()[0].split("_")[0] for line in queue()}:
        subprocess.run(["scancel", "--quiet", *jobs], check=False)
    wait_for("an empty queue", lambda: not active())


def active() -> list[str]:
    """The lines of jobs that still wait or run; a job that waits for a failed one does neither."""
    ended = ("DependencyNeverSatisfied", "CANCELLED", "COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL")
    return [line for line in queue() if not any(word in line for word in ended)]


def release() -> None:
    """Let the jobs begin that were submitted with HELD."""
    ids = subprocess.run(["squeue", "--noheader", "--format=%A"], capture_output=True, text=True, check=True).stdout
    subprocess.run(["scontrol", "release", *dict.fromkeys(ids.split())], check=True)


def status(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "neurogen.status", str(folder), *arguments],
        cwd=REPOSITORY, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def steps(folder: Path) -> list[dict[str, Any]]:
    return json.loads(status(folder, "--json").stdout)["steps"]


def states(folder: Path) -> dict[str, str]:
    return {step["identity"]: step["state"] for step in steps(folder)}


def reasons(folder: Path) -> dict[str, str]:
    """Why what failed has failed, by kind."""
    return {step["kind"]: step["reason"] for step in steps(folder) if step["state"] == "failed"}


def wrapped(folder: Path, program: str, script: str) -> str:
    """A PATH on which `program` is this shell script, in which REAL is the real one."""
    path = folder / "bin" / program
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n" + script.replace("REAL", shutil.which(program) or program) + "\n")
    path.chmod(0o755)
    return f"{path.parent}:{os.environ['PATH']}"


def wait_for(condition: str, ready: Callable[[], object], patience_s: float = 300) -> None:
    """Fails after `patience_s`, with the queue and the last lines of the newest logs."""
    deadline = time.monotonic() + patience_s
    while not ready():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {patience_s:.0f} s for {condition}\n{evidence()}")
        time.sleep(0.1)


def evidence() -> str:
    """The queue, and what the newest jobs wrote under the folder of the running tests."""
    squeue = subprocess.run(["squeue", "--all"], capture_output=True, text=True, check=False).stdout
    base = Path(os.environ["SLURM_CONF"]).parents[1]
    logs = [*base.glob("*/runs/queue/ng-*/*_log.*"), *base.glob("*/runs/queue/ng-*/attempt-*.json")]
    newest = sorted(logs, key=lambda path: path.stat().st_mtime)[-8:]
    return squeue + "".join(f"\n--- {path}\n{path.read_text(errors='replace')[-2000:]}" for path in newest)
