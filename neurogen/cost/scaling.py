"""What several GPUs change, by ZeRO stage: the memory of each and the seconds of a step. dry_run=true prints it.

    stage   backbone       trained values   gradients   moments        (share of each of W GPUs)
    0       1              1                1           1
    1       1              1 + 1/W          1           1/W            the optimiser works on a copy of its share
    2       1              1 + 1/W          1/W         1/W
    3       1/W + gathered 2/W              1/W         1/W

From stage 1 on, each GPU also has a bucket of the size of all gradients. A GPU has C/W of a step's C contexts, in
batches. Gradients are reduced once per step, from stage 2 on once per batch; then the new values are gathered. Stage 3
gathers all parameters in the forward and in the backward pass. Communication is added to the computation, although a
part of it overlaps.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

from neurogen.config import Experiment, GpuConfig, Keep, Optimizer, StageConfig
from neurogen.cost.estimate import Estimate, StageCost

FLOAT_BYTES = 4  # of what is trained
GATHERED_PARAMETERS = 1_000_000_000  # DeepSpeed's stage3_max_live_parameters


@dataclass(frozen=True)
class Layout:
    """GPUs on one or several nodes."""

    nodes: int
    gpus_per_node: int

    @property
    def num_gpus(self) -> int:
        """Of all nodes."""
        return self.nodes * self.gpus_per_node


LAYOUTS = (Layout(1, 1), Layout(1, 4), Layout(1, 8), Layout(2, 4))


@dataclass(frozen=True)
class HeldBytes:
    """What a GPU holds between steps, without activations."""

    backbone: int
    gathered: int
    values: int
    gradients: int
    bucket: int
    moments: int
    best: int

    @property
    def total(self) -> int:
        """Of all of it."""
        return sum(astuple(self))


@dataclass(frozen=True)
class Plan:
    """Both stages of an experiment on several GPUs."""

    layout: Layout
    zero_stage: int
    bytes_per_gpu: int
    seconds_per_step: float  # of the slower stage
    contexts_per_step: int  # of that stage; at least one per GPU
    gpu_hours: float  # of both stages


def plans_of(estimate: Estimate, experiment: Experiment) -> list[Plan]:
    """Every layout with every ZeRO stage that makes sense there."""
    return [
        plan_of(estimate, experiment.gpu, layout, zero_stage)
        for layout in LAYOUTS
        for zero_stage in ((0,) if layout.num_gpus == 1 else (1, 2, 3))
    ]


def plan_of(estimate: Estimate, gpu: GpuConfig, layout: Layout, zero_stage: int) -> Plan:
    """The memory and the hours of both stages on this layout."""
    num_gpus = layout.num_gpus
    held = max(held_bytes(estimate, stage.config, num_gpus, zero_stage).total for stage in estimate.stages)
    contexts = [num_gpus * math.ceil(stage.config.contexts_per_step / num_gpus) for stage in estimate.stages]
    activations = max(
        stage.activation_bytes(count // num_gpus) for stage, count in zip(estimate.stages, contexts, strict=True)
    )
    seconds = [
        seconds_per_step(estimate, gpu, stage, layout, zero_stage, count)
        for stage, count in zip(estimate.stages, contexts, strict=True)
    ]
    slower = seconds.index(max(seconds))
    hours = sum(stage.steps * s for stage, s in zip(estimate.stages, seconds, strict=True)) / 3600 * num_gpus
    return Plan(layout, zero_stage, held + activations, seconds[slower], contexts[slower], hours)


def held_bytes(estimate: Estimate, stage: StageConfig, num_gpus: int, zero_stage: int) -> HeldBytes:
    """What a GPU holds between the steps of this stage."""
    trained = FLOAT_BYTES * estimate.trained_parameters.total
    share = trained // num_gpus
    gathered = GATHERED_PARAMETERS * estimate.weight_bytes // estimate.backbone_parameters
    is_sharded = zero_stage == 3
    return HeldBytes(
        backbone=estimate.weight_bytes // num_gpus if is_sharded else estimate.weight_bytes,
        gathered=min(estimate.weight_bytes, gathered) if is_sharded else 0,
        values=(trained, trained + share, trained + share, 2 * share)[zero_stage],
        gradients=(trained, trained, share, share)[zero_stage],
        bucket=trained if zero_stage else 0,
        moments=2 * (trained, share, share, share)[zero_stage] if stage.optimizer == Optimizer.adamw else 0,
        best=trained if stage.keep == Keep.best else 0,
    )


def seconds_per_step(
    estimate: Estimate, gpu: GpuConfig, stage: StageCost, layout: Layout, zero_stage: int, contexts: int
) -> float:
    """The time of a step that generates from `contexts` contexts, all GPUs together."""
    num_gpus = layout.num_gpus
    # a ring is as fast as its slowest link, and the GPUs of a node have one network card
    bandwidth = 1e9 * (gpu.link_gb_per_s if layout.nodes == 1 else gpu.network_gb_per_s)
    seconds_per_byte = (num_gpus - 1) / num_gpus / bandwidth  # to bring a byte to every GPU
    passes = stage.num_batches(contexts // num_gpus)
    trained = FLOAT_BYTES * estimate.trained_parameters.total * seconds_per_byte
    gradients = trained * (passes if zero_stage >= 2 else 1)
    gathering = 2 * (estimate.weight_bytes * seconds_per_byte + trained) if zero_stage == 3 else 0.0
    return stage.seconds(contexts // num_gpus) + passes * gathering + gradients + trained
