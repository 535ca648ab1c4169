"""A run that is killed, interrupted, shared by two processes, or of which a part is deleted."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.conftest import TINY, FinishedRun, Program, StartProgram, folders

KILLED = [*TINY, "recipe.inject.steps=20", "recipe.tune.steps=20", "recipe.tune.batch_size=512"]
UP_TO_EVALUATION = "only=[reference,classical,inject,tune,evaluate]"  # without tables and plots


def test_killed_at_any_moment_it_ends_in_the_same_bits(
    program: Program, start_program: StartProgram, tmp_path: Path
) -> None:
    """SIGKILL as soon as a file of each kind appears, or a later one, in zoo, stage 1 and stage 2; then run to the
    end."""
    assert program("run", *KILLED, "root=undisturbed", UP_TO_EVALUATION).returncode == 0
    moments = [
        ("reference/*", "network-0001.safetensors"),
        ("inject/*/checkpoints", "step-000002.safetensors"),
        ("inject/*/checkpoints", "step-000010.safetensors"),
        ("tune/*/checkpoints", "step-000004.safetensors"),
        ("tune/*/checkpoints", "step-000016.safetensors"),
        ("evaluate/*", "network-0000.safetensors"),
    ]
    for folder, name in moments:
        process = start_program("run", *KILLED, "root=killed")
        of_kind = f"{folder}/{name.partition('-')[0]}-*.safetensors"
        while not any(path.name >= name for path in (tmp_path / "killed").glob(of_kind)):
            assert process.poll() is None, f"ended before {name}"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    last = program("run", *KILLED, "root=killed")
    assert last.returncode == 0, last.stderr
    disturbed, undisturbed = folders(tmp_path / "killed"), folders(tmp_path / "undisturbed")
    for kind in ("inject", "tune"):
        for name in ("generator.safetensors", "adapter/adapter_model.safetensors"):
            assert (disturbed[kind] / name).read_bytes() == (undisturbed[kind] / name).read_bytes(), (kind, name)
    for index in range(2):
        name = f"network-{index:04d}.safetensors"
        assert (disturbed["evaluate"] / name).read_bytes() == (undisturbed["evaluate"] / name).read_bytes()


def test_a_deleted_folder_is_made_again_with_the_same_bits(
    tiny_run: FinishedRun, program: Program, tmp_path: Path
) -> None:
    shutil.copytree(tiny_run.folder / "runs", tmp_path / "runs")
    steps = folders(tmp_path / "runs")
    before = (steps["tune"] / "generator.safetensors").read_bytes()
    shutil.rmtree(steps["tune"])
    again = program("run", *TINY)
    assert (steps["tune"] / "generator.safetensors").read_bytes() == before
    assert again.stdout.endswith(tiny_run.table)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_and_says_how_to_go_on(
    start_program: StartProgram, tmp_path: Path, stop: signal.Signals
) -> None:
    process = start_program("run", *TINY, "recipe.inject.steps=3000", "checkpoint_every=1000")
    while not list((tmp_path / "runs").glob("inject/*/events*")):
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(stop)
    assert process.wait() == 130
    _, errors = process.output()
    assert "the same command continues" in errors
    assert "Traceback" not in errors
    assert len(list((tmp_path / "runs").glob("inject/*/checkpoints/step-*.safetensors"))) == 1


def test_two_processes_share_the_work_and_the_result(start_program: StartProgram) -> None:
    both = [start_program("run", *TINY) for _ in range(2)]
    outputs = [process.communicate() for process in both]
    assert [process.poll() for process in both] == [0, 0], outputs
    assert "waiting: another process works on" in outputs[0][1] + outputs[1][1]
    ends = [stdout[stdout.index("\ndigits") :] for stdout, _ in outputs]
    assert ends[0] == ends[1]
