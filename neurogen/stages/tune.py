"""Stage 2, Context-Enhanced Instruction Tuning (paper 3.4).

in:  the generator of stage 1 (or a new one, for the paper's ablation; or one that knows other tasks), the datasets
out: a generator whose networks fit the task that instruction and context describe
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from neurogen.data.dataset import Dataset, require_same
from neurogen.generator.folder import build_generator, load_generator, save_generator
from neurogen.generator.generator import Generator, ZooMoments, injection_loss, tuning_loss
from neurogen.generator.task import Task
from neurogen.generator.transfer import transferred
from neurogen.rng import rng_of
from neurogen.stages.task_data import TaskData, balance_of, shown
from neurogen.stages.validation import validation_of
from neurogen.study.pipeline import TaskSpec, Tune
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.targets.zoo import load_zoo
from neurogen.training.loop import Generate, Objective, passes_of, train
from neurogen.training.runtime import Runtime


def tune(step: Tune, runtime: Runtime) -> dict[str, Any]:
    datasets = [task.load_seen() for task in step.tasks]
    generator = _starting_point(step, datasets, runtime)
    task_data = [_subject(*one, generator, step, runtime) for one in zip(step.tasks, datasets, strict=True)]
    balance = balance_of(task_data)

    def loss(generate: Generate, number: int, which: int) -> Tensor:
        """eq. 2: the loss is taken on many samples, of which the backbone reads a few."""
        subject, weight = task_data[number % len(task_data)], balance[number % len(task_data)]
        task, train = subject.task, subject.dataset.train
        random = rng_of(step.seed, "tune", number, which)
        order = train.sample(len(train), random)
        batch = order[: step.stage.batch_size]
        relabelling = subject.relabelling(random, held_out=False)
        context = subject.context(order, relabelling, step.generator)
        of_step = rng_of(step.seed, "tune", number, "shown")
        told = shown(step.generator, subject, context, task_data, of_step, random)
        z = generate(task.name, *told)
        classes = train.labels[batch]
        labels = classes if relabelling is None else relabelling.labels(classes)
        inputs, labels = train.inputs(batch).to(runtime.device), labels.to(runtime.device)
        fits = weight * tuning_loss(subject.network, generator.decode(task.name, z), inputs, labels)
        if not step.stage.anchor or step.inject is None:
            return fits
        return fits + step.stage.anchor * injection_loss(z, subject.zoo_for(relabelling))

    objective = Objective(
        name="adapt" if isinstance(step.start, Tune) else "tune",
        module=generator,
        loss=loss,
        validate=validation_of(generator, task_data, step.seed, runtime),
        num_tokens_read=lambda: generator.backbone.num_tokens_read,
        passes_per_step=passes_of(step.backbone),
        steps_per_epoch=sum(math.ceil(len(dataset.train) / step.stage.batch_size) for dataset in datasets),
    )
    history = train(objective, step.stage, step.folder, step.checkpoint_every, runtime)
    if runtime.is_first:
        save_generator(generator, step.backbone, step.folder)
    return {"history": history}


def _subject(task: TaskSpec, dataset: Dataset, generator: Generator, step: Tune, runtime: Runtime) -> TaskData:
    """With recipe.tune.anchor stage 2 keeps a part of L1: few samples tell less of a good network than a zoo does."""
    known = generator.tasks[task.name]
    network = known.network().to(runtime.device)
    zoos = {zoo.task.name: zoo for zoo in step.inject.zoos} if step.inject is not None else {}
    moments = None
    if step.stage.anchor and task.name in zoos:
        networks = load_zoo(zoos[task.name], dataset, network)
        moments = ZooMoments.of(known.scale.encode(networks).to(runtime.device))
    return TaskData(known, dataset, network, moments)


def _starting_point(step: Tune, datasets: list[Dataset], runtime: Runtime) -> Generator:
    """The generator of the step before; where that knows other tasks, it begins to learn the one that it does not."""
    if step.start is None:
        tasks = [_unscaled(*one, step.generator.soft_clip) for one in zip(step.tasks, datasets, strict=True)]
        return build_generator(step.backbone, step.generator, tasks, step.seed, runtime)
    generator = load_generator(step.start.folder, runtime, step.backbone.gradient_checkpointing)
    goes_on = step.start.tasks == step.tasks
    known = datasets if goes_on else [task.load() for task in step.start.tasks]
    for task, dataset in zip(step.start.tasks, known, strict=True):
        require_same(dataset, generator.tasks[task.name].fingerprint, step.start.folder)
    if goes_on:
        return generator
    return transferred(generator, _unscaled(step.tasks[0], datasets[0], step.generator.soft_clip), step.seed)


def _unscaled(task: TaskSpec, dataset: Dataset, soft_clip: float | None) -> Task:
    """Without a zoo the scale is that of the fan-in."""
    layout = ParameterLayout.of(build_network(task.target, dataset.shape))
    return Task.of(dataset, task.dataset, task.target, Scale.of_fan_in(layout, soft_clip))
