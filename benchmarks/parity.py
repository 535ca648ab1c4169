"""Section `parity`: how far the losses of both stages on the GPU are from those on the CPU.

in:  the same zoo, 12 steps of stage 1 and 12 of stage 2, in several number formats
out: |loss − loss on the CPU in float32| / loss on the CPU: of the first step, the largest of all, and of the last step
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.setting import DEVICE, report
from benchmarks.stages import losses_of, run_stages, runtime_on
from neurogen.training.numerics import Numerics
from neurogen.training.runtime import Runtime

# name: (format of the backbone, whether convolutions and RNNs may use TF32, which is torch's default)
FORMATS = {
    "float32": (torch.float32, False),
    "float32, convolutions in TF32": (torch.float32, True),
    "bfloat16": (torch.bfloat16, False),
}


@dataclass(frozen=True)
class Differences:
    """Of the losses, relative to those on the CPU."""

    first: float
    largest: float
    last: float


def measure(folder: Path, case: str) -> None:
    """The losses of both stages in every format on the device, against float32 on the CPU."""
    expected = losses(folder / "cpu", runtime_on("cpu", torch.float32))
    for name, (dtype, tf32) in FORMATS.items():
        root = folder / name.replace(", ", "-").replace(" ", "-")
        shutil.copytree(folder / "cpu" / "reference", root / "reference")
        measured = losses(root, replace(runtime_on(DEVICE, dtype), numerics=Numerics(tf32=tf32)))
        relative = [abs(a - b) / a for a, b in zip(expected, measured, strict=True)]
        report(**{name: Differences(relative[0], max(relative), relative[-1])})


def losses(root: Path, runtime: Runtime) -> list[float]:
    """The losses of all steps of both stages, trained in this root."""
    steps = run_stages(root, runtime, [], ["inject", "tune"])
    return losses_of(steps["inject"]) + losses_of(steps["tune"])
