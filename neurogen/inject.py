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
from neurogen.training import Objective, train
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

    def loss(number: int, which: int) -> Tensor:
        """eq. 1, half of the time under the generic instruction, else under a context as stage 2 will show it."""
        random = generator_of(step.seed, "inject", number, which)
        instruction, context = GENERIC, None
        if float(torch.rand((), generator=random)) < step.generator.context_warmup:
            instruction = task.instruction
            context = Context.sample(dataset.train, dataset.class_names, step.generator.context_samples, random)
        return injection_loss(generator(task.name, instruction, context), moments)

    objective = Objective(
        name="inject",
        trainables=generator.trainables,
        loss=loss,
        validate=validation_of(generator, task, network, dataset, step.seed, runtime),
        num_tokens_read=lambda: generator.backbone.num_tokens_read,
        steps_per_epoch=len(zoo),
    )
    history = train(objective, step.stage, step.folder, step.checkpoint_every, runtime)
    save_generator(generator, step.backbone, step.folder)
    _, zoo_mean = evaluate_network(network, layout.tensors(zoo.mean(0)), dataset.validation, runtime)
    return {"history": history, "zoo_mean_validation_accuracy": zoo_mean}
