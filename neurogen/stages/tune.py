"""Stage 2, Context-Enhanced Instruction Tuning (paper 3.4).

in:  the generator of stage 1 (or a new one, for the paper's ablation; or one that knows other tasks), the datasets
out: a generator whose networks fit the task that instruction and context describe
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from neurogen.data.dataset import Dataset, require_same
from neurogen.data.splits import SplitName
from neurogen.generator.folder import build_generator, load_generator
from neurogen.generator.generator import Generator
from neurogen.generator.latent import draw_code
from neurogen.generator.losses import ZooMoments, injection_loss, tuning_loss
from neurogen.generator.prompts import Prompt
from neurogen.generator.task import Task
from neurogen.generator.transfer import transferred
from neurogen.rng import rng_of
from neurogen.stages.data_report import say_what_was_read
from neurogen.stages.episode import Episode
from neurogen.stages.prompt import draw_prompt
from neurogen.stages.task_data import TaskData, balance_of
from neurogen.stages.training import train_generator
from neurogen.study.pipeline import Tune
from neurogen.study.task_spec import TaskSpec, require_same_model
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.targets.zoo import load_zoo
from neurogen.training.loop import Forward
from neurogen.training.runtime import Runtime


@dataclass(frozen=True)
class Draw:
    """What is drawn for one network of a step."""

    prompt: Prompt
    episode: Episode
    batch: Int64[Tensor, " batch"]  # training samples of the loss


def tune(step: Tune, runtime: Runtime) -> dict[str, Any]:
    """Train by eq. 2 and save the generator into the step's folder. Returns the history."""
    datasets = [spec.load_seen() for spec in step.tasks]
    for dataset in datasets:
        say_what_was_read(dataset, runtime)
    generator = _starting_point(step, datasets, runtime)
    require_same_model(step.backbone, step.model_identity)
    pairs = zip(step.tasks, datasets, strict=True)
    tasks = [_load(spec, dataset, generator, step, runtime) for spec, dataset in pairs]
    balance = balance_of(tasks)

    def draw(data: TaskData, step_index: int, context_index: int) -> Draw:
        """The loss is taken on a batch of many samples, of which the context holds a few."""
        num_samples = len(data.dataset.train)
        rng = rng_of(step.seed, "tune", step_index, context_index)
        index = data.dataset.train.sample(num_samples, rng)  # all of them, in random order
        step_rng = rng_of(step.seed, "tune", step_index, "shown")
        episode = data.draw_episode(rng, step_rng, SplitName.TRAIN)
        index = index[episode.includes(data.dataset.train.labels[index])]
        context = data.context(index, episode, step.generator)  # D_sub: the first of the batch (context.py)
        prompt = draw_prompt(step.generator, data, episode, context, tasks, step_rng, rng)
        prompt = replace(prompt, code=draw_code(step.generator.latent, rng))
        return Draw(prompt, episode, index[: step.stage.batch_size])

    def loss_of(z: Float[Tensor, " params"], data: TaskData, drawn: Draw, weight: float) -> Float[Tensor, ""]:
        """eq. 2 for one network."""
        inputs, classes = data.train.batch(drawn.batch)
        listed = drawn.prompt.listed
        tensors = generator.decode(data.task.name, z, None if listed is None else len(listed))
        task_loss = weight * tuning_loss(data.network, tensors, inputs, drawn.episode.labels(classes))
        if not step.stage.anchor or step.inject is None:
            return task_loss
        return task_loss + step.stage.anchor * injection_loss(z, data.zoo_of(drawn.episode, drawn.prompt.code))

    def losses(forward: Forward, step_index: int, contexts: Sequence[int]) -> Float[Tensor, " contexts"]:
        data, weight = tasks[step_index % len(tasks)], balance[step_index % len(tasks)]
        draws = [draw(data, step_index, index) for index in contexts]
        z = forward(data.task.name, [drawn.prompt for drawn in draws])
        return torch.stack([loss_of(row, data, drawn, weight) for row, drawn in zip(z, draws, strict=True)])

    steps_per_epoch = sum(math.ceil(len(dataset.train) / step.stage.batch_size) for dataset in datasets)
    name = "adapt" if isinstance(step.start, Tune) else "tune"
    history = train_generator(name, generator, tasks, losses, steps_per_epoch, step, runtime)
    return {"history": history}


def _load(spec: TaskSpec, dataset: Dataset, generator: Generator, step: Tune, runtime: Runtime) -> TaskData:
    """A task with the moments of its zoo where recipe.tune.anchor keeps a part of L1: a few samples say less about a
    good network than a zoo does."""
    task = generator.tasks[spec.name]
    network = task.network().to(runtime.device)
    zoos = {zoo.task.name: zoo for zoo in step.inject.zoos} if step.inject is not None else {}
    moments = None
    if step.stage.anchor and spec.name in zoos:
        networks = load_zoo(zoos[spec.name], dataset, network)
        moments = ZooMoments.of(task.scale.encode(networks).to(runtime.device), step.generator.latent)
    return TaskData(task, dataset, network, moments)


def _starting_point(step: Tune, datasets: list[Dataset], runtime: Runtime) -> Generator:
    """The generator of the step before. Where that does not know this step's task, the task is transferred to it.

    Raises UserError when the data are no longer those that the generator was trained on.
    """
    if step.start is None:
        pairs = zip(step.tasks, datasets, strict=True)
        tasks = [_without_zoo(spec, dataset, step.generator.soft_clip) for spec, dataset in pairs]
        return build_generator(step.backbone, step.generator, tasks, step.seed, runtime)
    targets = [spec.target for spec in step.start.tasks]
    generator = load_generator(step.start.folder, runtime, step.backbone.gradient_checkpointing, targets)
    is_known = step.start.tasks == step.tasks
    known = datasets if is_known else [spec.load() for spec in step.start.tasks]
    for spec, dataset in zip(step.start.tasks, known, strict=True):
        require_same(dataset, generator.tasks[spec.name].fingerprint, step.start.folder)
    if is_known:
        return generator
    return transferred(generator, _without_zoo(step.tasks[0], datasets[0], step.generator.soft_clip), step.seed)


def _without_zoo(spec: TaskSpec, dataset: Dataset, soft_clip: float | None) -> Task:
    """A task with the scale of the fan-in, which needs no zoo."""
    layout = ParameterLayout.of(build_network(spec.target, dataset.shape))
    return Task.of(dataset, spec.dataset, spec.target, Scale.of_fan_in(layout, soft_clip))
