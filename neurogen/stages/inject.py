"""Stage 1, Parameter Reference Knowledge Injection (paper 3.3).

in:  the zoo of every task (reference steps), the datasets for contexts
out: a generator whose networks lie close to the zoo's mean; the accuracy of the zoo's mean on validation
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neurogen.config import ScaleKind, StageConfig
from neurogen.data.splits import SplitName
from neurogen.generator.folder import build_generator
from neurogen.generator.known import KnownRows, rows_in
from neurogen.generator.latent import Code
from neurogen.generator.losses import ZooMoments, injection_loss
from neurogen.generator.prompts import GENERIC, Prompt
from neurogen.generator.task import Task
from neurogen.rng import rng_of
from neurogen.stages.data_report import say_what_was_read
from neurogen.stages.episode import Episode, SameTask
from neurogen.stages.prompt import draw_prompt
from neurogen.stages.task_data import TaskData
from neurogen.stages.training import train_generator
from neurogen.study.pipeline import Inject, Zoo
from neurogen.study.task_spec import require_same_model
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.targets.prediction import evaluate_network
from neurogen.targets.zoo import load_zoo
from neurogen.training.history import Metrics
from neurogen.training.loop import Forward
from neurogen.training.runtime import Runtime

FAR = 0.05  # a difference of accuracies on validation that is worth a line


def inject(step: Inject, runtime: Runtime) -> dict[str, Any]:
    """Train by eq. 1 and save the generator into the step's folder. Returns the history and the zoo means' accuracy."""
    loaded = [_load(zoo, step, runtime) for zoo in step.zoos]
    tasks, mean_accuracies = [data for data, _ in loaded], [accuracy for _, accuracy in loaded]
    generator = build_generator(step.backbone, step.generator, [data.task for data in tasks], step.seed, runtime)
    require_same_model(step.backbone, step.model_identity)

    def draw(data: TaskData, step_index: int, context_index: int) -> tuple[Prompt, Episode]:
        """A part `context_warmup` of the steps has prompts as in stage 2, the others have I_s1 alone."""
        # step_rng decides what is the same for all contexts of a step
        step_rng, rng = (rng_of(step.seed, "inject", step_index, index) for index in (0, context_index))
        chance, _ = (float(torch.rand((), generator=source)) for source in (step_rng, rng))
        codes = data.zoo.components.codes if data.zoo is not None and data.zoo.components is not None else ()
        code = code_of_a_network(codes, step.seed, step_index, context_index)
        if chance >= step.generator.context_warmup:
            return Prompt(GENERIC, None, code=code), SameTask(data.task.class_names)
        index = data.dataset.train.sample(len(data.dataset.train), rng)
        episode = data.draw_episode(rng, step_rng, SplitName.TRAIN)
        context = data.context(index, episode, step.generator)
        prompt = draw_prompt(step.generator, data, episode, context, tasks, step_rng, rng)
        return replace(prompt, code=code), episode

    def losses(forward: Forward, step_index: int, contexts: Sequence[int]) -> Float[Tensor, " contexts"]:
        """eq. 1."""
        data = tasks[step_index % len(tasks)]
        prompts, episodes = zip(*(draw(data, step_index, index) for index in contexts), strict=True)
        z = forward(data.task.name, prompts)
        each = zip(z, prompts, episodes, strict=True)
        return torch.stack([injection_loss(row, data.zoo_of(drawn, prompt.code)) for row, prompt, drawn in each])

    steps_per_epoch = sum(reference.num_networks for zoo in step.zoos for reference in zoo.references)
    history = train_generator("inject", generator, tasks, losses, steps_per_epoch, step, runtime)
    accuracies = dict(zip(generator.tasks, mean_accuracies, strict=True))
    if runtime.is_first:
        _say_how_near(history[-1], mean_accuracies, tasks, step.stage)
    return {"history": history, "zoo_mean_validation_accuracy": accuracies}


def code_of_a_network(codes: Sequence[Code], seed: int, step_index: int, context_index: int) -> Code | None:
    """That of a reference network; the contexts of a step have different ones, as far as there are so many. None where
    there are no codes."""
    if not codes:
        return None
    first = context_index - context_index % len(codes)
    order = torch.randperm(len(codes), generator=rng_of(seed, "inject", "codes", step_index, first))
    return codes[int(order[context_index - first])]


def _say_how_near(
    last: Metrics, mean_accuracies: Sequence[float], tasks: Sequence[TaskData], stage: StageConfig
) -> None:
    """Say where stage 1 has ended before its networks were about as good as the means of the zoos."""
    mean, generated = fmean(mean_accuracies), last["validation_accuracy"]
    if mean - generated <= FAR:
        return
    floor = fmean(float(injection_loss(data.zoo.mean, data.zoo)) for data in tasks if data.zoo is not None)
    kept = any(data.zoo.components is not None for data in tasks if data.zoo is not None)
    within = "what the codes leave of the variance within the zoo" if kept else "the variance within the zoo"
    key, length = stage.length
    print(
        f"  stage 1 is not at its end: its networks reach {100 * generated:.1f} % on validation, the mean of the zoo "
        f"{100 * mean:.1f} %; its loss is {last['loss']:.3f}, and {floor:.3f} of it is {within}. "
        f"More steps may help: recipe.inject.{key} (now {length})",
        flush=True,
    )


def _load(zoo: Zoo, step: Inject, runtime: Runtime) -> tuple[TaskData, float]:
    """A task with the moments of its zoo, and the accuracy of the zoo's mean network on validation."""
    dataset = zoo.task.load_seen()
    say_what_was_read(dataset, runtime)
    network = build_network(zoo.task.target, dataset.shape).to(runtime.device)
    networks = load_zoo(zoo, dataset, network)
    layout, soft_clip = ParameterLayout.of(network), step.generator.soft_clip
    is_zscore = step.generator.scale == ScaleKind.zscore
    scale = Scale.of_zoo(networks, layout, soft_clip) if is_zscore else Scale.of_fan_in(layout, soft_clip)
    task = Task.of(dataset, zoo.task.dataset, zoo.task.target, scale)
    moments = ZooMoments.of(scale.encode(networks).to(runtime.device), step.generator.latent)
    if task.lists_classes:
        task = replace(task, known=KnownRows.unfitted(rows_in(moments.mean, layout).cpu()))
    data = TaskData(task, dataset, network, moments)
    validation = data.validation(SameTask(task.class_names))
    _, accuracy = evaluate_network(network, layout.tensors(networks.mean(0)), validation)
    return data, accuracy
