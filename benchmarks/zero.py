"""Sections `zero CASE`: what DeepSpeed's ZeRO costs on a single GPU, where it can save nothing.

in:  Llama-3-8B with random weights (on a CPU the tiny Llama), stage 2 without a zoo, one context per step
out: seconds per step, memory and the losses, with no ZeRO and with the stages 1, 2 and 3; without ZeRO also with
     deterministic=true
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from threading import Event

from benchmarks.setting import ON_GPU, report
from benchmarks.stages import StageSpeed, experiment_of, losses_of, run_stages, runtime_on
from hpc.ranks.distributed import runtime_of_ranks
from hpc.ranks.placement import Placement
from hpc.ranks.zero import zero_from
from neurogen.training.numerics import Numerics

LARGE = ["dataset=mnist5k", "target=lenet", "backbone=llama3_8b", "backbone.random_seed=0"]
SETTING = [
    "recipe.inject.steps=0",  # stage 2 alone, as in the paper's ablation
    "recipe.tune.steps=7",
    "recipe.tune.anchor=0",
    "generator.scale=fan_in",
    "generator.soft_clip=1.0",
    "checkpoint_every=100",
    *([*LARGE, "backbone.random_on_device=true"] if ON_GPU else []),
]


def measure(folder: Path, case: str) -> None:
    """Stage 2 with one rank under this stage of ZeRO."""
    experiment = experiment_of(folder, *SETTING, f"zero={case}")
    ranks = runtime_of_ranks(runtime_on, zero_from(experiment.zero), Placement.from_environment(os.environ), Event())
    with ranks as runtime:
        tune = run_stages(folder, runtime, SETTING, ["tune"])["tune"]
        report(tune=StageSpeed.of(tune), losses=losses_of(tune))
        if case == "none":
            deterministic = replace(runtime, numerics=Numerics(deterministic=True))
            again = run_stages(folder / "deterministic", deterministic, SETTING, ["tune"])["tune"]
            report(deterministic=StageSpeed.of(again))
