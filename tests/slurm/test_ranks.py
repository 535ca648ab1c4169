"""Both stages over the lab's two nodes under DeepSpeed ZeRO, undisturbed and disturbed, through the launcher.

Disturbances wait for a checkpoint and not for time, so that stage 1 can be short on any machine.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from slurm.lab.lab import Lab
from tests.conftest import TINY
from tests.hpc.test_ranks import assert_same, stage
from tests.slurm.conftest import (
    REPOSITORY,
    Finished,
    Sweep,
    active,
    clear_queue,
    done,
    jobs_of,
    reasons,
    submission,
    wait_for,
)

NODES = ["+cluster.steps.inject.nodes=2", "+cluster.steps.tune.nodes=2"]
STEPS = 400
LONG = [
    *NODES,
    "zero=stage2",
    "recipe.inject.contexts_per_step=2",
    "recipe.tune.contexts_per_step=2",
    f"recipe.inject.steps={STEPS}",
    f"recipe.inject.validate_every={STEPS}",
    "recipe.tune.steps=2",
    "checkpoint_every=20",
]
SHORT = ["recipe.inject.steps=20", "recipe.tune.steps=20", "checkpoint_every=10"]


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


def attempts(root: Path) -> list[int | None]:
    """How the attempts at stage 1 ended, over all its jobs."""
    paths = sorted(root.glob("queue/ng-inject*/attempt-0-*.json"), key=lambda path: path.name)
    return [json.loads(path.read_text())["exit_status"] for path in paths]


def pid_of(rank: int, root: Path) -> int:
    """The process of a rank of stage 1."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and f"{root}/queue/ng-inject".encode() in read(folder / "cmdline"):
            environment = read(folder / "environ").split(b"\0")
            is_ours = read(folder / "cmdline").startswith(sys.executable.encode())
            if is_ours and f"SLURM_PROCID={rank}".encode() in environment:
                return int(folder.name)
    raise AssertionError(f"no process of rank {rank}")


def has_got(pid: int, signal_number: int) -> bool:
    """Whether a signal waits for a stopped process, or the process has ended."""
    masks = re.findall(rb"ShdPnd:\s*(\w+)", read(Path(f"/proc/{pid}/status")))
    return not masks or bool(int(masks[0], 16) & 1 << signal_number - 1)


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has just ended
        return b""


@pytest.fixture(scope="module")
def undisturbed(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a sweep whose stage 1 nobody disturbed, under ZeRO 2; what comes after it is not needed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    finished.give(folder / "runs", "reference", "classical")
    root = submit(folder)
    wait_for("stage 1", lambda: done(root, "inject"))
    clear_queue()
    assert attempts(root) == [0]
    return root


@pytest.fixture
def disturbed(finished: Finished, undisturbed: Path, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """disturbed("key=value", …) → the root of the same sweep, once stage 1 has done some steps."""

    def started(*arguments: str) -> Path:
        finished.give(tmp_path / "runs", "reference", "classical")
        root = submit(tmp_path, *arguments)
        wait_for("a checkpoint", lambda: checkpoints(root))
        return root

    yield started
    clear_queue()


def assert_same_bits(root: Path, other: Path) -> None:
    last = f"checkpoints/step-{STEPS:06d}.safetensors"
    state, expected = (load_file(stage(folder, "inject") / last) for folder in (root, other))
    assert state.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in state.items())


@pytest.fixture(scope="module")
def one_process(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a short run of both stages in one process."""
    root = tmp_path_factory.mktemp("one") / "runs"
    finished.give(root, "reference", "classical")
    command = [sys.executable, "-m", "neurogen.run", *TINY, *LONG[len(NODES) :], *SHORT, f"root={root}", "zero=none"]
    subprocess.run([*command, "only=[tune]"], cwd=REPOSITORY, check=True, capture_output=True, timeout=300)
    return root


LEFT_OVER = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "7", "MASTER_ADDR": "nowhere", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("zero", "until", "options", "variables"),
    [
        ("stage2", "tune", ["+cluster.additional.export=NONE"], {}),
        ("stage3", "sweeps", [], LEFT_OVER),  # in the shell that submits, from a program with one process
    ],
)
def test_both_stages_over_two_nodes_do_what_one_process_does(
    finished: Finished,
    one_process: Path,
    sweep: Sweep,
    tmp_path: Path,
    zero: str,
    until: str,
    options: list[str],
    variables: dict[str, str],
) -> None:
    """Every rank has its log, and rank 0 alone shows progress. Under stage 3 the table is waited for as well."""
    root = tmp_path / "runs"
    finished.give(root, "reference", "classical")
    process = sweep(*LONG, *SHORT, f"zero={zero}", *options, **variables)
    assert process.returncode == 0, process.stderr
    wait_for(until, lambda: done(root, until))
    for kind in ("inject", "tune"):
        assert_same(one_process, root, kind)
        logs = sorted(root.glob(f"queue/ng-{kind}*/*_log.out"))
        assert [path.name.split("_")[1] for path in logs] == ["0", "1"]
        assert [f"{kind}: " in path.read_text() for path in logs] == [True, False]
        assert json.loads((stage(root, kind) / "environment.json").read_text())["ranks"] == 2
        last = json.loads((stage(root, kind) / "metrics.json").read_text())["history"][-1]
        assert last.keys() >= {"memory_gb", "memory_gb_of_rank/1", "step_s", "tokens_per_s"}


@pytest.fixture
def grace(lab: Lab) -> Iterator[None]:
    """Jobs of the partition low have a minute to end when they are preempted."""
    for seconds in ("60", "0"):
        update = ["scontrol", "update", "partitionname=low", f"gracetime={seconds}"]
        subprocess.run(update, check=True, capture_output=True, timeout=60)
        if seconds == "60":
            yield


def test_preempted_with_a_time_of_grace_it_goes_on(
    undisturbed: Path, grace: None, disturbed: Callable[..., Path]
) -> None:
    """SLURM says that a job has failed which ends within that time, and cancels what waits for it."""
    root = disturbed()
    urgent = ["sbatch", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=true"]
    subprocess.run(urgent, check=True, capture_output=True, timeout=300)
    wait_for("stage 1", lambda: attempts(root)[-1] == 0)
    first = min(root.glob("queue/ng-inject*/attempt-0-*.json"), key=lambda path: path.name)
    assert json.loads(first.read_text())["message"] == "preempted, back in the queue"
    assert attempts(root) == [130, 0]
    assert_same_bits(root, undisturbed)
    wait_for("stage 2", lambda: done(root, "tune"))


def test_preempted_and_requeued_it_goes_on(undisturbed: Path, disturbed: Callable[..., Path]) -> None:
    root = disturbed()
    urgent = ["sbatch", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=true"]
    subprocess.run(urgent, check=True, capture_output=True, timeout=300)
    wait_for("the next attempt", lambda: len(attempts(root)) > 1)
    wait_for_progress(root)
    subprocess.run(["scontrol", "requeue", *jobs_of(root, "inject")], check=True)
    wait_for("stage 1", lambda: attempts(root)[-1] == 0)
    assert attempts(root) == [130, 130, 0]
    assert_same_bits(root, undisturbed)


def test_out_of_time_it_goes_on(undisturbed: Path, disturbed: Callable[..., Path]) -> None:
    """SLURM's signal comes 10 to 40 s before the limit of one minute. Both ranks stand still until they have it.

    They save, and put the job back into the queue: as often as a slow machine needs.
    """
    limits = ["+cluster.steps.inject.timeout_min=1", "cluster.signal_delay_s=10", "cluster.max_requeues=40"]
    root = disturbed(*limits)
    pids = [pid_of(rank, root) for rank in (0, 1)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    wait_for("the signal", lambda: all(has_got(pid, signal.SIGUSR2) for pid in pids))
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    wait_for("stage 1", lambda: attempts(root)[-1] == 0, patience_s=900)
    assert set(attempts(root)) == {130, 0}
    first = min(root.glob("queue/ng-inject*/attempt-0-*.json"), key=lambda path: path.name)
    assert json.loads(first.read_text())["requeued"]
    assert_same_bits(root, undisturbed)


def test_lost_ranks_have_names_and_the_same_command_goes_on(undisturbed: Path, disturbed: Callable[..., Path]) -> None:
    """One is killed, and after that one hangs."""
    root = disturbed("zero.rank_timeout_s=10")
    (folder,) = (root / "sweeps").iterdir()
    for signal_number, message in ((signal.SIGKILL, "is gone"), (signal.SIGSTOP, "has not been heard of for")):
        os.kill(pid_of(1, root), signal_number)
        wait_for("the end", lambda: not active(), patience_s=90)
        failed = reasons(folder)
        assert re.search(rf"^rank 1 on n2 {message}", failed["inject"]), failed
        assert failed["tune"].startswith("needs inject-"), failed
        submit(root.parent, "zero.rank_timeout_s=10")
        if signal_number == signal.SIGKILL:
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
