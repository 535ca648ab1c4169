"""What a step tells of itself: memory of its own, and how much of the card it used."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from neurogen.choices import conf_folder
from neurogen.config import StepKind
from neurogen.environment import environment
from neurogen.study.step import Step
from neurogen.training import memory
from neurogen.training.cards import peak_tflops_of
from neurogen.training.engine import SingleProcess
from neurogen.training.loop import train
from neurogen.training.memory import peak_memory_gb
from neurogen.training.runtime import Runtime
from neurogen.training.speed import num_multiplied, say_unknown
from tests.conftest import Composed
from tests.faults.interposed import REPOSITORY
from tests.training.test_training import AT_THE_END, regression


@dataclass(frozen=True)
class Measuring(Step):
    """A step that says how much memory was taken at most."""

    kind, version, runs = StepKind.embed, 1, "tests.training.test_speed:measure"


def measure(step: Measuring, runtime: Runtime) -> dict[str, Any]:
    return {"memory_gb": peak_memory_gb(runtime.device)}


IN_A_FRESH_PROCESS = """
import sys
import torch
from neurogen.training.memory import peak_memory_gb
from neurogen.training.runtime import runtime_here
from tests.training.test_speed import Measuring

runtime = runtime_here("cpu", 1)
Measuring(sys.argv[1] + "/first").run(runtime)  # what a step imports is there afterwards
torch.ones(2**28, dtype=torch.uint8)
before = peak_memory_gb(runtime.device)
step = Measuring(sys.argv[1] + "/second")
step.run(runtime)
print(before - step.metrics()["memory_gb"])
"""


def test_the_peak_of_a_step_is_not_that_of_the_step_before(tmp_path: Path) -> None:
    """In a process of its own, which has nothing else in its memory."""
    if not memory.CLEAR_REFS.exists():
        pytest.skip("this system cannot forget the peak of a process")
    command = [sys.executable, "-c", IN_A_FRESH_PROCESS, str(tmp_path)]
    shown = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, encoding="utf-8")
    assert float(shown.stdout.splitlines()[-1]) > 0.2


class CountedEngine(SingleProcess):
    """Remembers how often it was asked for the size of a parameter."""

    asked = 0

    def numel(self, value: nn.Parameter) -> int:
        CountedEngine.asked += 1
        return super().numel(value)


def test_utilisation_is_the_share_of_the_peak(tmp_path: Path, experiment: Composed, runtime: Runtime) -> None:
    """4 parameters, 2 passes and 10 tokens a step. The parameters are counted once, and not in every step."""
    stage = experiment("recipe.tune.steps=3").recipe.tune
    tokens = iter(range(0, 1000, 10))
    on_card = replace(runtime, peak_tflops=1e-6, engine=CountedEngine)
    objective = replace(regression(), num_tokens_read=lambda: next(tokens))
    *_, last = train(objective, stage, tmp_path / "card", AT_THE_END, on_card)
    assert last["mfu"] == pytest.approx(2 * 2 * 4 * 10 / last["step_s"] / 1e6)
    assert CountedEngine.asked == len(list(objective.module.parameters()))
    *_, last = train(regression(), stage, tmp_path / "none", AT_THE_END, runtime)
    assert "mfu" not in last


def test_tokens_meet_neither_tables_nor_a_vision_encoder(experiment: Composed, runtime: Runtime) -> None:
    module = nn.ModuleDict({"table": nn.Embedding(5, 3), "encoder": nn.Linear(7, 3), "layer": nn.Linear(3, 3)})
    engine = SingleProcess(module, torch.optim.SGD(module.parameters()), experiment().recipe.tune, 1, {})
    assert num_multiplied(module, module["encoder"], engine) == 12
    assert num_multiplied(module, None, engine) == 12 + 24


@pytest.mark.parametrize(
    ("card", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100-PCIE-40GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("NVIDIA GH200 480GB", 989),
        ("NVIDIA L40S", 362),
        ("NVIDIA A10G", None),
        ("NVIDIA RTX A6000", None),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", None),
    ],
)
def test_the_peak_is_that_of_the_card(card: str, peak: float | None) -> None:
    assert peak_tflops_of(card) == peak


@pytest.mark.parametrize("path", sorted(Path(conf_folder()).glob("gpu/*.yaml")), ids=lambda path: path.stem)
def test_a_dry_run_calculates_with_the_same_peak(path: Path) -> None:
    gpu = OmegaConf.load(path)
    assert peak_tflops_of(gpu.name) == gpu.peak_tflops


def test_an_unknown_card_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        say_unknown("NVIDIA Unheard 9000")
    assert capsys.readouterr().out.count("no MFU: the peak of NVIDIA Unheard 9000") == 1


def test_the_environment_has_nothing_of_a_gpu_where_there_is_none() -> None:
    about = environment(torch.device("cpu"), torch.float32)
    assert [about[name] for name in ("device", "driver", "cuda", "cudnn", "nccl")] == [None] * 5
    assert about["dtype"] == "float32"
    assert {"torch", "deepspeed"} <= about["versions"].keys()
