"""Whether all that a generator will ever read fits into the positions of its backbone.

in:  an experiment; its data only where the config does not say its size
out: nothing, or a UserError

Longest of all are a context of the longest samples under the longest names, and the parameter tokens. Texts count as
long as dataset.text.max_tokens lets them be. The evaluation also reads a foreign instruction and foreign samples.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from neurogen.config import Experiment
from neurogen.cost.meta import meta_backbone, meta_generator
from neurogen.cost.reading import raw_size_of, shape_of, tokens_read
from neurogen.data import foreign
from neurogen.errors import UserError
from neurogen.generator.backbone import too_long
from neurogen.generator.prompts import task_instruction
from neurogen.stages.conditioning import ANOTHER_TASK


def require_room(experiment: Experiment) -> None:
    """Raises UserError where a context may be longer than what the backbone was made to read.

    As the backbone is built without values here, LoRA modules and layers that it lacks are refused as well.
    """
    e = experiment
    backbone = meta_backbone(e.backbone, torch.bfloat16, attention=None)
    if backbone.positions is None:
        return
    size, class_names = raw_size_of(e.dataset)
    shape = shape_of(e.dataset, size)
    others = foreign.TABLES if e.dataset.text is not None else foreign.PHOTOGRAPHS
    for target in (e.target,) if e.source is None else (e.target, e.source):
        meta = meta_generator(e, target, backbone, shape)
        instruction = max(meta.task.instruction, task_instruction(*ANOTHER_TASK[target.modality]), key=len)
        task = replace(meta.task, class_names=(*(class_names or meta.task.class_names), *others))
        num_tokens = tokens_read(e, task, instruction) + meta.generator.num_tokens(task.name)
        if num_tokens > backbone.positions:
            raise UserError(
                f"backbone {e.backbone.model or e.backbone.name}: {too_long(num_tokens, backbone.positions)}"
            )
