"""Stage 1, Parameter Reference Knowledge Injection (paper 3.3).

in:  the zoo of every task (reference steps), the datasets for contexts
out: a generator whose networks lie close to the zoo's mean; what the zoo's mean itself is worth
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neurogen.generator.folder import build_generator, save_generator
from neurogen.generator.generator import ZooMoments, injection_loss
from neurogen.generator.prompts import GENERIC
from neurogen.generator.task import Task
from neurogen.rng import rng_of
from neurogen.stages.task_data import TaskData, shown
from neurogen.stages.validation import validation_of
from neurogen.study.pipeline import Inject, Zoo
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.targets.prediction import evaluate_network
from neurogen.targets.zoo import load_zoo
from neurogen.training.loop import Generate, Objective, passes_of, train
from neurogen.training.runtime import Runtime


def inject(step: Inject, runtime: Runtime) -> dict[str, Any]:
    task_data, zoo_means = zip(*(_subject(zoo, step, runtime) for zoo in step.zoos), strict=True)
    tasks = [subject.task for subject in task_data]
    generator = build_generator(step.backbone, step.generator, tasks, step.seed, runtime)

    def loss(generate: Generate, number: int, which: int) -> Tensor:
        """eq. 1, half of the steps under the generic instruction, else under contexts as stage 2 will show them."""
        subject: TaskData = task_data[number % len(task_data)]
        # the first: what is the same for all contexts of a step
        first, random = (rng_of(step.seed, "inject", number, one) for one in (0, which))
        is_warm, _ = (float(torch.rand((), generator=one)) for one in (first, random))
        instruction, context, relabelling = GENERIC, None, None
        if is_warm < step.generator.context_warmup:
            index = subject.dataset.train.sample(len(subject.dataset.train), random)
            relabelling = subject.relabelling(random, held_out=False)
            context = subject.context(index, relabelling, step.generator)
            instruction, context = shown(step.generator, subject, context, task_data, first, random)
        return injection_loss(generate(subject.task.name, instruction, context), subject.zoo_for(relabelling))

    objective = Objective(
        name="inject",
        module=generator,
        loss=loss,
        validate=validation_of(generator, task_data, step.seed, runtime),
        num_tokens_read=lambda: generator.backbone.num_tokens_read,
        passes_per_step=passes_of(step.backbone),
        steps_per_epoch=sum(reference.num_networks for zoo in step.zoos for reference in zoo.references),
    )
    history = train(objective, step.stage, step.folder, step.checkpoint_every, runtime)
    if runtime.is_first:
        save_generator(generator, step.backbone, step.folder)
    return {"history": history, "zoo_mean_validation_accuracy": dict(zip(generator.tasks, zoo_means, strict=True))}


def _subject(zoo: Zoo, step: Inject, runtime: Runtime) -> tuple[TaskData, float]:
    """A task with the moments of its zoo, and the accuracy of the zoo's mean on validation."""
    dataset = zoo.task.load_seen()
    network = build_network(zoo.task.target, dataset.shape).to(runtime.device)
    networks = load_zoo(zoo, dataset, network)
    layout, soft_clip = ParameterLayout.of(network), step.generator.soft_clip
    in_zscores = step.generator.scale == "zscore"
    scale = Scale.of_zoo(networks, layout, soft_clip) if in_zscores else Scale.of_fan_in(layout, soft_clip)
    task = Task.of(dataset, zoo.task.dataset, zoo.task.target, scale)
    moments = ZooMoments.of(scale.encode(networks).to(runtime.device))
    _, accuracy = evaluate_network(network, layout.tensors(networks.mean(0)), dataset.validation, runtime)
    return TaskData(task, dataset, network, moments), accuracy
