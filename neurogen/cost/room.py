"""Whether all that a generator will ever read fits into the positions of its backbone, and training into the memory.

in:  an experiment; its data only where the config does not say its size
out: nothing, or a UserError

Longest of all are a context of the longest samples under the longest names, and the parameter tokens. Texts count as
long as dataset.text.max_tokens lets them be. The evaluation also reads a foreign instruction and foreign samples.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from neurogen.config import Experiment, TargetConfig
from neurogen.cost.estimate import estimate
from neurogen.cost.meta import META, meta_backbone, meta_generator
from neurogen.cost.reading import raw_size_of, shape_of, tokens_read
from neurogen.cost.scaling import FLOAT_BYTES
from neurogen.data import foreign
from neurogen.data.preparation import DataShape
from neurogen.errors import UserError
from neurogen.generator.backbone import Backbone, too_long
from neurogen.generator.prompts import task_instruction
from neurogen.stages.conditioning import ANOTHER_TASK
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout

LARGE = 1_000_000  # values of a target that may fill a machine


@dataclass(frozen=True)
class Memory:
    """Of the machine that will do the work, and how the backbone's weights lie there."""

    free_bytes: int
    dtype: torch.dtype


def require_room(experiment: Experiment, memory: Memory | None = None) -> None:
    """Raises UserError where a context may be longer than what the backbone was made to read, or training may take more
    than the memory; None: it is another machine's.

    As the backbone is built without values here, LoRA modules and layers that it lacks are refused as well.
    """
    e = experiment
    backbone = meta_backbone(e.backbone, torch.bfloat16, attention=None)
    if backbone.positions is None and memory is None:
        return
    size, class_names = raw_size_of(e.dataset)
    shape = shape_of(e.dataset, size)
    for target in (e.target,) if e.source is None else (e.target, e.source):
        require_positions(e, target, backbone, shape, class_names)
    if memory is not None:
        _require_memory(e, e.target, shape, memory)


def require_positions(
    e: Experiment, target: TargetConfig, backbone: Backbone, shape: DataShape, class_names: Sequence[str]
) -> None:
    """The same of one target. `class_names` are empty where the data were not read."""
    if backbone.positions is None:
        return
    others = foreign.TABLES if e.dataset.text is not None else foreign.PHOTOGRAPHS
    meta = meta_generator(e, target, backbone, shape)
    instruction = max(meta.task.instruction, task_instruction(*ANOTHER_TASK[target.modality]), key=len)
    task = replace(meta.task, class_names=(*(class_names or meta.task.class_names), *others))
    at_once = min(meta.generator.num_tokens(task.name), e.generator.block_tokens or sys.maxsize)
    num_tokens = tokens_read(e, task, instruction) + at_once
    if num_tokens > backbone.positions:
        raise UserError(f"backbone {e.backbone.model or e.backbone.name}: {too_long(num_tokens, backbone.positions)}")


def _require_memory(e: Experiment, target: TargetConfig, shape: DataShape, memory: Memory) -> None:
    """Raises UserError where training a generator of this target would not fit. Small targets are let through without
    an estimate, which takes seconds."""
    with META:
        num_values = ParameterLayout.of(build_network(target, shape)).num_parameters
    if num_values < LARGE:
        return
    cost = estimate(e, memory.dtype)
    parts = {
        "weights": cost.weight_bytes,
        "trained values": cost.trained_bytes,
        "zoo": FLOAT_BYTES
        * num_values
        * (e.zoo.num_networks + (e.generator.latent or 0) if not e.recipe.inject.is_left_out else 0),
        "activations": cost.activation_bytes,
    }
    if sum(parts.values()) > memory.free_bytes:
        listed = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in parts.items())
        raise UserError(
            f"target {target.name} has {num_values:,} values, and training its generator takes about "
            f"{sum(parts.values()) / 1e9:.1f} GB ({listed}), where {memory.free_bytes / 1e9:.1f} GB are free; set "
            "generator.block_tokens=512, lower recipe.tune.batch_size, or take a smaller target or backbone"
        )
