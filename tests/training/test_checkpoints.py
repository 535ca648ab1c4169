"""When checkpoints are saved, by whom, and what is there after a stop, a kill or a full disk."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from neurogen import store
from neurogen.config import CheckpointInterval, StageConfig
from neurogen.errors import Interrupted, UserError
from neurogen.training.history import read_rows
from neurogen.training.loop import Forward, Objective, train
from neurogen.training.runtime import Runtime
from tests.conftest import Composed
from tests.training.test_training import AT_THE_END, regression, values

Value = TypeVar("Value")
EVERY_3 = CheckpointInterval(minutes=None, steps=3)
STEPS = 12


@pytest.fixture
def stage(experiment: Composed) -> StageConfig:
    return experiment(f"recipe.tune.steps={STEPS}", "recipe.tune.validate_every=3", "recipe.tune.lr=0.05").recipe.tune


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def steps_in(folder: Path) -> list[float]:
    """Of the rows of the history's file."""
    return [row["step"] for row in read_rows(folder / "checkpoints/history.jsonl")]


def losses(history: list[dict[str, float]]) -> list[float | None]:
    return [row.get("loss") for row in history]


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (AT_THE_END, ["step-000012"]),
        (CheckpointInterval(minutes=60, steps=None), ["step-000012"]),
        (CheckpointInterval(minutes=1e-9, steps=None), ["step-000011", "step-000012"]),
        (CheckpointInterval(minutes=None, steps=5), ["step-000010", "step-000012"]),
        (CheckpointInterval(minutes=60, steps=5), ["step-000010", "step-000012"]),
    ],
)
def test_minutes_or_steps_whichever_comes_first(
    tmp_path: Path, stage: StageConfig, runtime: Runtime, interval: CheckpointInterval, expected: list[str]
) -> None:
    """The two newest are kept, and the last step is saved in any case."""
    train(regression(), stage, tmp_path, interval, runtime)
    assert names(tmp_path) == ["history.jsonl", *(f"{name}.safetensors" for name in expected)]
    assert steps_in(tmp_path) == list(range(STEPS + 1))


def test_a_truncated_checkpoint_is_passed_over(
    tmp_path: Path, stage: StageConfig, runtime: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also its history is cut back. The broken one is not among the two that are kept."""
    whole = regression()
    history = train(whole, stage, tmp_path, EVERY_3, runtime)
    newest = tmp_path / "checkpoints/step-000012.safetensors"
    newest.write_bytes(newest.read_bytes()[:-40])
    every_step = CheckpointInterval(minutes=None, steps=1)
    with pytest.raises(Interrupted):
        train(regression(stop_at=10, runtime=runtime), stage, tmp_path, every_step, runtime)
    said = capsys.readouterr().out
    assert "step-000012.safetensors is broken" in said
    assert "continuing from step 9" in said
    assert names(tmp_path)[1:] == [f"step-0000{step}.safetensors" for step in (10, 11, 12)]
    runtime.stop.clear()
    again = regression()
    assert losses(train(again, stage, tmp_path, EVERY_3, runtime)) == losses(history)
    assert torch.equal(values(again), values(whole))
    assert steps_in(tmp_path) == list(range(STEPS + 1))


def test_a_checkpoint_of_another_generator_is_refused(tmp_path: Path, stage: StageConfig, runtime: Runtime) -> None:
    train(regression(3), stage, tmp_path, AT_THE_END, runtime)
    with pytest.raises(UserError, match=r"belongs to another generator: it differs in weight"):
        train(regression(4), stage, tmp_path, AT_THE_END, runtime)


@pytest.fixture
def stopped(tmp_path: Path, stage: StageConfig, runtime: Runtime) -> Path:
    """The folder of a run that was stopped after step 6."""
    with pytest.raises(Interrupted):
        train(regression(stop_at=5, runtime=runtime), stage, tmp_path, AT_THE_END, runtime)
    runtime.stop.clear()
    return tmp_path


ROW = json.dumps({"step": 7.0, "loss": 1e9})


@pytest.mark.parametrize("torn", [f"{ROW}\n", ROW, f"{ROW}\n{ROW[:9]}", ROW[:9], "\0\0\0"])
def test_what_a_killed_writer_left_behind_is_cut_off(
    stopped: Path, stage: StageConfig, runtime: Runtime, torn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows of a checkpoint that was never finished, and half a row."""
    with (stopped / "checkpoints/history.jsonl").open("a") as file:
        file.write(torn)
    history = train(regression(), stage, stopped, AT_THE_END, runtime)
    assert [row["step"] for row in history] == steps_in(stopped) == list(range(STEPS + 1))
    assert max(row.get("loss", 0.0) for row in history) < 1e9
    assert "warning" not in capsys.readouterr().out


def test_without_its_history_a_run_goes_on_with_a_gap(
    stopped: Path, stage: StageConfig, runtime: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    (stopped / "checkpoints/history.jsonl").unlink()
    resumed, whole = regression(), regression()
    history = train(resumed, stage, stopped, AT_THE_END, runtime)
    assert "history.jsonl has 0 of 7 rows; learning curves have a gap" in capsys.readouterr().out
    assert [row["step"] for row in history] == steps_in(stopped) == list(range(7, STEPS + 1))
    train(whole, stage, stopped / "whole", AT_THE_END, runtime)
    assert torch.equal(values(resumed), values(whole))


def test_a_checkpoint_of_an_earlier_version_brings_its_history(
    stopped: Path, stage: StageConfig, runtime: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stood in the metadata."""
    (path,) = (stopped / "checkpoints").glob("step-*")
    rows = list(read_rows(stopped / "checkpoints/history.jsonl"))
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        progress = json.loads(file.metadata()["progress"])
    save_file(tensors, path, {"progress": json.dumps(progress | {"history": rows})})
    (stopped / "checkpoints/history.jsonl").unlink()
    history = train(regression(), stage, stopped, AT_THE_END, runtime)
    assert [row["step"] for row in history] == steps_in(stopped) == list(range(STEPS + 1))
    assert "warning" not in capsys.readouterr().out


def test_a_history_without_a_checkpoint_is_begun_anew(stopped: Path, stage: StageConfig, runtime: Runtime) -> None:
    (path,) = (stopped / "checkpoints").glob("step-*")
    path.unlink()
    train(regression(), stage, stopped, AT_THE_END, runtime)
    assert steps_in(stopped) == list(range(STEPS + 1))


@pytest.fixture
def slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Checkpoints are written once the event is set."""
    released = threading.Event()
    write = store.write_tensors

    def wait_and_write(*arguments: object) -> None:
        assert released.wait(20)
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "write_tensors", wait_and_write)
    yield released
    released.set()


def test_training_goes_on_while_a_checkpoint_is_written(
    tmp_path: Path, stage: StageConfig, runtime: Runtime, slow_disk: threading.Event
) -> None:
    """Step 7's is not on the disk before the validation after step 9. It holds values, moments and best of step 7."""
    stage, every_7 = replace(stage, keep="best"), CheckpointInterval(minutes=None, steps=7)
    num_validations = iter(range(STEPS))

    def validate() -> dict[str, float]:
        if next(num_validations) == 3:
            slow_disk.set()
        return {"validation_loss": 1.0, "validation_accuracy": 0.5}

    train(replace(regression(), validate=validate), stage, tmp_path / "late", every_7, runtime)
    with pytest.raises(Interrupted):
        train(regression(stop_at=6, runtime=runtime), stage, tmp_path / "stopped", AT_THE_END, runtime)
    late, stopped = (load_file(tmp_path / name / "checkpoints/step-000007.safetensors") for name in ("late", "stopped"))
    assert {name.split("/")[0] for name in late} == {"value", "optimizer", "best"}
    assert [name for name in late if not torch.equal(late[name], stopped[name])] == ["best/bias", "best/weight"]
    for name, value in late.items():
        if name.startswith("best/"):
            assert not torch.equal(value, late[name.replace("best", "value")])


def test_a_stop_waits_for_the_writer(
    tmp_path: Path, stage: StageConfig, runtime: Runtime, slow_disk: threading.Event
) -> None:
    threading.Timer(0.5, slow_disk.set).start()
    with pytest.raises(Interrupted):
        train(regression(stop_at=5, runtime=runtime), stage, tmp_path, AT_THE_END, runtime)
    assert names(tmp_path) == ["history.jsonl", "step-000006.safetensors"]


@pytest.mark.parametrize(
    ("size", "part"), [("4k", "history.jsonl"), ("12k", "step-000005.safetensors")], ids=["history", "tensors"]
)
def test_a_full_disk_ends_the_run_in_one_line(
    tmp_path: Path, stage: StageConfig, runtime: Runtime, size: str, part: str
) -> None:
    """Soon after the checkpoint of step 5, and not only at that of step 10."""
    disk = tmp_path / "checkpoints"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    (disk / "other").write_bytes(b"0" * 4096)
    steps = []

    def slow_losses(run: Forward, step: int, contexts: Sequence[int]) -> Tensor:
        steps.append(step)
        time.sleep(0 if step < 5 else 1)  # the write fails within one of these steps, also on busy cores
        return objective.losses(run, step, contexts)

    objective = regression(4000)

    try:
        with pytest.raises(UserError, match=rf"cannot write .*{part} .*No space left.*the same command then continues"):
            train(replace(objective, losses=slow_losses), stage, tmp_path, CheckpointInterval(None, 5), runtime)
        assert max(steps) < 9
        assert not list(disk.glob("*.safetensors"))
    finally:
        subprocess.run(["umount", disk], check=True)


@dataclass
class ThreadRank:
    """A rank that is a thread. The collectives of all of them meet at a barrier."""

    rank: int
    slots: list[object]
    meeting: threading.Barrier
    size: int = 2
    sent: list[list[float]] = field(default_factory=list)

    def exchange(self, value: object) -> list[object]:
        self.slots[self.rank] = value
        self.meeting.wait(30)
        values = list(self.slots)
        self.meeting.wait(30)
        return values

    def broadcast(self, value: Value) -> Value:
        return self.exchange(value)[0]  # type: ignore[return-value]

    def all_gather(self, sent: list[float]) -> list[list[float]]:
        self.sent.append(sent)
        return self.exchange(sent)  # type: ignore[return-value]

    def barrier(self) -> None:
        self.exchange(None)


Outcome = list[dict[str, float]] | BaseException


def train_as_ranks(
    objectives: list[Objective],
    runtimes: list[Runtime],
    stage: StageConfig,
    folder: Path,
    *intervals: CheckpointInterval,
) -> list[Outcome]:
    """What `train` returns or raises on every rank. Gradients are not averaged: each has a model of its own."""
    outcomes: list[Outcome] = [[], []]

    def run(rank: int) -> None:
        try:
            outcomes[rank] = train(objectives[rank], stage, folder, intervals[rank], runtimes[rank])
        except (Interrupted, UserError) as error:
            outcomes[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return outcomes


@pytest.fixture
def ranks(runtime: Runtime) -> list[Runtime]:
    slots: list[object] = [None, None]
    meeting = threading.Barrier(2)
    return [replace(runtime, ranks=ThreadRank(rank, slots, meeting), stop=threading.Event()) for rank in range(2)]


def two_contexts(stage: StageConfig) -> StageConfig:
    return replace(stage, contexts_per_step=2)


@pytest.mark.parametrize(
    ("clocks", "expected"),
    [((1e-9, None), ["step-000011", "step-000012"]), ((None, 1e-9), ["step-000012"])],
    ids=["rank 0 wants to", "rank 1 wants to"],
)
def test_the_clock_of_rank_0_decides_for_all(
    tmp_path: Path,
    stage: StageConfig,
    ranks: list[Runtime],
    clocks: tuple[float | None, float | None],
    expected: list[str],
) -> None:
    intervals = [CheckpointInterval(minutes, None) for minutes in clocks]
    train_as_ranks([regression(), regression()], ranks, two_contexts(stage), tmp_path, *intervals)
    assert names(tmp_path)[1:] == [f"{name}.safetensors" for name in expected]
    assert steps_in(tmp_path) == list(range(STEPS + 1))


def test_ranks_meet_once_a_step(tmp_path: Path, stage: StageConfig, ranks: list[Runtime]) -> None:
    outcomes = train_as_ranks(
        [regression(), regression()], ranks, two_contexts(stage), tmp_path, AT_THE_END, AT_THE_END
    )
    assert [len(runtime.ranks.sent) for runtime in ranks] == [STEPS, STEPS]  # type: ignore[attr-defined]
    assert losses(outcomes[0]) == losses(outcomes[1])  # type: ignore[arg-type]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_any_rank_stops_all_after_the_same_step(
    tmp_path: Path, stage: StageConfig, ranks: list[Runtime], rank: int
) -> None:
    objectives = [regression(), regression()]
    objectives[rank] = regression(stop_at=4, runtime=ranks[rank])
    outcomes = train_as_ranks(objectives, ranks, two_contexts(stage), tmp_path, AT_THE_END, AT_THE_END)
    assert [type(outcome) for outcome in outcomes] == [Interrupted, Interrupted]
    assert names(tmp_path) == ["history.jsonl", "step-000005.safetensors"]


def test_a_loss_that_is_no_number_on_any_rank_ends_all(
    tmp_path: Path, stage: StageConfig, ranks: list[Runtime]
) -> None:
    broken = regression()
    with torch.no_grad():
        next(broken.module.parameters()).fill_(torch.nan)
    outcomes = train_as_ranks([regression(), broken], ranks, two_contexts(stage), tmp_path, AT_THE_END, AT_THE_END)
    assert [str(outcome) for outcome in outcomes] == [
        "tune: the loss is nan at step 1; lower recipe.tune.lr (now 0.05)"
    ] * 2
