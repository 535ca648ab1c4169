"""What several GPUs change, by ZeRO stage: the memory of each, and the seconds of a step. A part of dry_run=true.

    stage   backbone       trained values   gradients   moments        (of W GPUs each holds this share)
    0       1              1                1           1
    1       1              1 + 1/W          1           1/W            the optimiser works on a copy of its share
    2       1              1 + 1/W          1/W         1/W
    3       1/W + gathered 2/W              1/W         1/W

and from stage 1 on a bucket of the size of all gradients. A step of C contexts takes C/W forward and backward passes.
Gradients go round once, from stage 2 on in every pass; then the new values do. Stage 3 gathers all parameters there and
back in every pass. Communication is added, though a part of it overlaps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from neurogen.config import Experiment, GpuConfig, StageConfig
from neurogen.cost.estimate import Estimate

FLOAT = 4  # bytes of what is trained
GATHERED_PARAMETERS = 1_000_000_000  # DeepSpeed's stage3_max_live_parameters


@dataclass(frozen=True)
class Layout:
    nodes: int
    gpus_per_node: int

    @property
    def num_gpus(self) -> int:
        return self.nodes * self.gpus_per_node


LAYOUTS = (Layout(1, 1), Layout(1, 4), Layout(1, 8), Layout(2, 4))


@dataclass(frozen=True)
class Plan:
    """Both stages of an experiment on some GPUs."""

    layout: Layout
    zero_stage: int
    bytes_per_gpu: int
    seconds_per_step: float  # of the slower of the two stages
    contexts_per_step: int  # of that stage; at least one per GPU
    gpu_hours: float  # of both


def plans_of(estimate: Estimate, experiment: Experiment) -> list[Plan]:
    """Every layout with every ZeRO stage that makes sense there."""
    gpu, stages = experiment.gpu, {"inject": experiment.recipe.inject, "tune": experiment.recipe.tune}
    return [
        plan_of(estimate, gpu, stages, layout, zero_stage)
        for layout in LAYOUTS
        for zero_stage in ((0,) if layout.num_gpus == 1 else (1, 2, 3))
    ]


def plan_of(
    estimate: Estimate, gpu: GpuConfig, stages: dict[str, StageConfig], layout: Layout, zero_stage: int
) -> Plan:
    size = layout.num_gpus
    held = max(sum(held_bytes(estimate, stage, size, zero_stage).values()) for stage in stages.values())
    activations = max(cost.activation_bytes for cost in estimate.stages.values())
    contexts = {name: size * math.ceil(stage.contexts_per_step / size) for name, stage in stages.items()}
    seconds = {
        name: seconds_per_step(estimate, gpu, stage, name, layout, zero_stage, contexts[name])
        for name, stage in stages.items()
    }
    slower = max(seconds, key=lambda name: seconds[name])
    hours = sum(estimate.stages[name].steps * seconds[name] for name in stages) / 3600 * size
    return Plan(layout, zero_stage, held + activations, seconds[slower], contexts[slower], hours)


def held_bytes(estimate: Estimate, stage: StageConfig, size: int, zero_stage: int) -> dict[str, int]:
    """What a GPU holds between steps, without activations."""
    trained = FLOAT * sum(estimate.trained_parameters.values())
    share = trained // size
    gathered = GATHERED_PARAMETERS * estimate.weight_bytes // estimate.backbone_parameters
    return {
        "backbone": estimate.weight_bytes // size if zero_stage == 3 else estimate.weight_bytes,
        "gathered": min(estimate.weight_bytes, gathered) if zero_stage == 3 else 0,
        "values": (trained, trained + share, trained + share, 2 * share)[zero_stage],
        "gradients": (trained, trained, share, share)[zero_stage],
        "bucket": trained if zero_stage else 0,
        "moments": 2 * (trained, share, share, share)[zero_stage] if stage.optimizer == "adamw" else 0,
        "best": trained if stage.keep == "best" else 0,
    }


def seconds_per_step(
    estimate: Estimate,
    gpu: GpuConfig,
    stage: StageConfig,
    name: str,
    layout: Layout,
    zero_stage: int,
    contexts: int,
) -> float:
    size = layout.num_gpus
    # a ring is as fast as its slowest link, and the GPUs of a node have one network card
    bandwidth = 1e9 * (gpu.link_gb_per_s if layout.nodes == 1 else gpu.network_gb_per_s)
    sent = (size - 1) / size / bandwidth  # seconds per byte that everybody is to have
    passes = contexts / size
    one_pass = estimate.stages[name].seconds_per_step / stage.contexts_per_step
    trained = FLOAT * sum(estimate.trained_parameters.values()) * sent
    gradients = trained * (passes if zero_stage >= 2 else 1)
    gathering = 2 * (estimate.weight_bytes * sent + trained) if zero_stage == 3 else 0.0
    return passes * (one_pass + gathering) + gradients + trained
