"""Steps of an experiment, run in this process on a chosen device and in a chosen number format.

in:  overrides of the config, a folder, a runtime
out: the finished steps by kind, with their metrics and folders
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.setting import DEVICE, NUM_THREADS, TINY
from neurogen.config import Experiment
from neurogen.run import compose
from neurogen.study.execution import chosen, run_here
from neurogen.study.graph import steps_of
from neurogen.study.step import Step
from neurogen.training.runtime import Runtime, runtime_here

WARM_UP_STEPS = 2


def experiment_of(folder: Path, *overrides: str) -> Experiment:
    """The tiny experiment with these changes, which keeps its steps in `folder`."""
    return compose([*TINY, f"root={folder}", *overrides])


def runtime_on(device: str = DEVICE, dtype: torch.dtype = torch.bfloat16) -> Runtime:
    """A runtime of one process; `dtype` is that of the frozen backbone."""
    return replace(runtime_here(device, NUM_THREADS), dtype=dtype)


def run_stages(folder: Path, runtime: Runtime, overrides: Sequence[str], kinds: Sequence[str]) -> dict[str, Step]:
    """Run the steps of these kinds and those that they need, unless they are done in `folder`. Returns them by kind."""
    steps = chosen(steps_of([experiment_of(folder, *overrides)]), kinds, 0, 1)
    run_here(steps, runtime)
    return {step.kind: step for step in steps}


def losses_of(step: Step) -> list[float]:
    """The training loss of every step of a stage."""
    return [row["loss"] for row in step.metrics()["history"] if "loss" in row]


@dataclass(frozen=True)
class StageSpeed:
    """Medians over the training steps of a stage after two warm-ups, as the stage itself measures them."""

    n: int
    step_s: float
    min_s: float
    max_s: float
    tokens_per_s: float
    memory_gb: float  # the largest of the process so far
    mfu: float | None  # None on a CPU

    @staticmethod
    def of(step: Step) -> StageSpeed:
        """The speed of this step, from its history; steps that warm up are left out."""
        rows = [row for row in step.metrics()["history"] if "step_s" in row][WARM_UP_STEPS:]
        medians = {name: statistics.median(row[name] for row in rows) for name in rows[0] if name != "step"}
        seconds = [row["step_s"] for row in rows]
        return StageSpeed(
            n=len(rows),
            step_s=medians["step_s"],
            min_s=min(seconds),
            max_s=max(seconds),
            tokens_per_s=medians["tokens_per_s"],
            memory_gb=max(row["memory_gb"] for row in rows),
            mfu=medians.get("mfu"),
        )
