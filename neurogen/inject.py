"""Stage 1, Parameter Reference Knowledge Injection (paper 3.3).

in:  the zoo (reference steps), the dataset for contexts
out: a generator whose networks lie close to the zoo's mean; what the zoo's mean itself is worth
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neurogen.generator import ZooMoments, injection_loss
from neurogen.generator_folder import build_generator, save_generator
from neurogen.networks import build_network
from neurogen.parameters import ParameterLayout, Scale
from neurogen.pipeline import Inject
from neurogen.prompts import GENERIC
from neurogen.runtime import Runtime, generator_of
from neurogen.task import Context, TaskDescription
from neurogen.training import Generate, Objective, passes_of, train
from neurogen.validation import validation_of
from neurogen.zoo import evaluate_network, load_zoo


def inject(step: Inject, runtime: Runtime) -> dict[str, Any]:
    dataset = step.task.load()
    network = build_network(step.task.target, dataset.shape).to(runtime.device)
    zoo = load_zoo(step.references, dataset, network, step.align)
    layout, soft_clip = ParameterLayout.of(network), step.generator.soft_clip
    in_zscores = step.generator.scale == "zscore"
    scale = Scale.of_zoo(zoo, layout, soft_clip) if in_zscores else Scale.of_fan_in(layout, soft_clip)
    task = TaskDescription.of(dataset, step.task.dataset, step.task.target, scale)
    generator = build_generator(step.backbone, step.generator, [task], step.seed, runtime)
    moments = ZooMoments.of(scale.encode(zoo).to(runtime.device))

    def loss(generate: Generate, number: int, which: int) -> Tensor:
        """eq. 1, half of the steps under the generic instruction, else under contexts as stage 2 will show them."""
        instruction, context = GENERIC, None
        # drawn from the step's first context for all of them: ranks must use the same modules at the same time
        first, random = (generator_of(step.seed, "inject", number, one) for one in (0, which))
        chances = [float(torch.rand((), generator=one)) for one in (first, random)]
        if chances[0] < step.generator.context_warmup:
            instruction = task.instruction
            context = Context.sample(dataset.train, dataset.class_names, step.generator.context_samples, random)
        return injection_loss(generate(task.name, instruction, context), moments)

    objective = Objective(
        name="inject",
        module=generator,
        loss=loss,
        validate=validation_of(generator, task, network, dataset, step.seed, runtime),
        num_tokens_read=lambda: generator.backbone.num_tokens_read,
        passes_per_step=passes_of(step.backbone),
        steps_per_epoch=len(zoo),
    )
    history = train(objective, step.stage, step.folder, step.checkpoint_every, runtime)
    if runtime.is_first:
        save_generator(generator, step.backbone, step.folder)
    _, zoo_mean = evaluate_network(network, layout.tensors(zoo.mean(0)), dataset.validation, runtime)
    return {"history": history, "zoo_mean_validation_accuracy": zoo_mean}
