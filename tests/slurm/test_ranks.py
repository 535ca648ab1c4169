"""Stage tuning over the lab's two nodes under DeepSpeed ZeRO, undisturbed and disturbed, through the launcher."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from slurm.lab.lab import Lab
from tests.conftest import TINY
from tests.hpc.test_ranks import assert_same, stage
from tests.slurm.conftest import (
    REPOSITORY,
    Sweep,
    active,
    done,
    reasons,
    submission,
    wait_for,
)

NODES = ["+cluster.steps.inject.nodes=2", "+cluster.steps.tune.nodes=2"]
STEPS = 1600
LONG = [
    *NODES,
    "zero=stage2",
    "recipe.inject.contexts_per_step=2",
    "recipe.tune.contexts_per_step=2",
    f"recipe.inject.steps={STEPS}",
    f"recipe.inject.validate_every={STEPS}",
    "recipe.tune.steps=2",
    "checkpoint_every=50",
]


def submit(folder: Path, *arguments: str) -> Path:
    """The root of a submitted sweep."""
    process = subprocess.run(**submission(folder, *LONG, *arguments), timeout=300, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    return folder / "runs"


def checkpoints(root: Path) -> list[Path]:
    return sorted(root.glob("inject/*/checkpoints/step-*.safetensors"))


def wait_for_progress(root: Path) -> None:
    """Until another checkpoint is newer than those that are there."""
    before = checkpoints(root)[-1]
    wait_for("progress", lambda: checkpoints(root)[-1] > before)


def inject_job() -> str:
    """The number of the running job of stage 1."""
    (job,) = (line.split()[0] for line in active() if "ng-inject" in line)
    return job


def attempts(root: Path) -> list[int | None]:
    """How the attempts at stage 1 ended, over all its jobs."""
    found = sorted(root.glob("queue/ng-inject*/attempt-0-*.json"), key=lambda path: path.name)
    return [json.loads(path.read_text())["exit_status"] for path in found]


def rank_1(root: Path) -> int:
    """The number of its process."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and f"{root}/queue/ng-inject".encode() in read(folder / "cmdline"):
            environment = read(folder / "environ").split(b"\0")
            if b"SLURM_PROCID=1" in environment and read(folder / "cmdline").startswith(sys.executable.encode()):
                return int(folder.name)
    raise AssertionError("no process of rank 1")


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has just ended
        return b""


@pytest.fixture(scope="module")
def undisturbed(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a sweep that nobody disturbed, under ZeRO 2."""
    root = submit(tmp_path_factory.mktemp("undisturbed"))
    wait_for("the table", lambda: done(root))
    assert attempts(root) == [0]
    return root


@pytest.fixture
def disturbed(undisturbed: Path, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """disturbed("key=value", …) → the root of the same sweep, once stage 1 has done some steps."""

    def started(*arguments: str) -> Path:
        for kind in ("reference", "classical"):
            shutil.copytree(undisturbed / kind, tmp_path / "runs" / kind)
        root = submit(tmp_path, *arguments)
        wait_for("a checkpoint", lambda: checkpoints(root))
        return root

    yield started
    subprocess.run(["scancel", "--quiet", *{line.split()[0] for line in active()}], check=False)
    wait_for("an empty queue", lambda: not active())


def assert_same_bits(root: Path, other: Path) -> None:
    one, two = (
        load_file(stage(which, "inject") / f"checkpoints/step-{STEPS:06d}.safetensors") for which in (root, other)
    )
    assert one.keys() == two.keys()
    assert all(torch.equal(value, two[name]) for name, value in one.items())


@pytest.mark.parametrize("zero", ["stage2", "stage3"])
def test_both_stages_over_two_nodes_do_what_one_process_does(sweep: Sweep, tmp_path: Path, zero: str) -> None:
    """Every rank has its log, and rank 0 alone shows progress."""
    root, short = tmp_path / "runs", ["recipe.inject.steps=20", "recipe.tune.steps=20", "checkpoint_every=10"]
    alone = tmp_path / "alone"
    here = [sys.executable, "-m", "neurogen.run", *TINY, *LONG[len(NODES) :], *short, f"root={alone}", "zero=none"]
    subprocess.run([*here, "only=[tune]"], cwd=REPOSITORY, check=True, capture_output=True, timeout=300)
    process = sweep(*LONG, *short, f"zero={zero}")
    assert process.returncode == 0, process.stderr
    wait_for("the table", lambda: done(root))
    for kind in ("inject", "tune"):
        assert_same(alone, root, kind)
        logs = sorted(root.glob(f"queue/ng-{kind}*/*_log.out"))
        assert [path.name.split("_")[1] for path in logs] == ["0", "1"]
        assert [f"{kind}: " in path.read_text() for path in logs] == [True, False]
        assert json.loads((stage(root, kind) / "environment.json").read_text())["ranks"] == 2
        last = json.loads((stage(root, kind) / "metrics.json").read_text())["history"][-1]
        assert last.keys() >= {"memory_gb", "memory_gb_of_rank/1", "step_s", "tokens_per_s"}


def test_preempted_and_requeued_it_goes_on(undisturbed: Path, disturbed: Callable[..., Path]) -> None:
    root = disturbed()
    urgent = [
        "sbatch",
        "--partition=high",
        "--nodes=2",
        "--exclusive",
        "--wait",
        "--output=/dev/null",
        "--wrap=sleep 3",
    ]
    subprocess.run(urgent, check=True, capture_output=True, timeout=300)
    wait_for_progress(root)
    subprocess.run(["scontrol", "requeue", inject_job()], check=True)
    wait_for("stage 1", lambda: attempts(root)[-1] == 0)
    assert attempts(root) == [130, 130, 0]
    assert_same_bits(root, undisturbed)


def test_out_of_time_it_goes_on(undisturbed: Path, disturbed: Callable[..., Path]) -> None:
    """It is told 40 s before its limit of one minute, saves, and puts itself back: as often as a slow machine needs."""
    limits = ["+cluster.steps.inject.timeout_min=1", "cluster.signal_delay_s=40", "cluster.max_requeues=40"]
    root = disturbed(*limits)
    wait_for("stage 1", lambda: attempts(root)[-1] == 0, patience_s=900)
    assert set(attempts(root)) == {130, 0}
    first = min(root.glob("queue/ng-inject*/attempt-0-*.json"), key=lambda path: path.name)
    assert json.loads(first.read_text())["requeued"]
    assert_same_bits(root, undisturbed)


def test_lost_ranks_have_names_and_the_same_command_goes_on(undisturbed: Path, disturbed: Callable[..., Path]) -> None:
    """One is killed, and after that one hangs."""
    root = disturbed("zero.rank_timeout_s=10")
    (folder,) = (root / "sweeps").iterdir()
    for number, said in ((signal.SIGKILL, "is gone"), (signal.SIGSTOP, "has not been heard of for")):
        os.kill(rank_1(root), number)
        wait_for("the end", lambda: not active(), patience_s=90)
        failed = reasons(folder)
        assert re.search(rf"^rank 1 on n2 {said}", failed["inject"]), failed
        assert "failed: rank 1 on n2" in failed["tune"], failed
        submit(root.parent, "zero.rank_timeout_s=10")
        if number == signal.SIGKILL:
            wait_for_progress(root)
    wait_for("stage 1", lambda: attempts(root)[-1] == 0)
    assert attempts(root) == [1, 1, 0]
    assert_same_bits(root, undisturbed)


def test_ranks_that_cannot_work_together_are_refused(sweep: Sweep) -> None:
    for arguments, message in (
        ([*NODES, "zero=stage2"], "recipe.inject.contexts_per_step=1 cannot be shared by 2 ranks"),
        (["+cluster.steps.reference.tasks_per_node=2"], "a reference step is the work of one process"),
        ([*LONG, "zero=none"], "asks for 2 ranks, which zero=none cannot use; set zero=stage1"),
    ):
        process = sweep(*arguments)
        assert process.returncode == 1
        assert message in process.stderr, process.stderr
        assert not active()
