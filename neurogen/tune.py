"""Stage 2, Context-Enhanced Instruction Tuning (paper 3.4).

in:  the generator of stage 1 (or a new one, for the paper's ablation), the dataset
out: a generator whose networks fit the task that instruction and context describe
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from neurogen.data.dataset import Dataset, require_same
from neurogen.generator import Generator, ZooMoments, injection_loss, tuning_loss
from neurogen.generator_folder import build_generator, load_generator, save_generator
from neurogen.networks import build_network
from neurogen.parameters import ParameterLayout, Scale
from neurogen.pipeline import Tune
from neurogen.runtime import Runtime, generator_of
from neurogen.task import Context, TaskDescription
from neurogen.training import Generate, Objective, passes_of, train
from neurogen.transfer import transferred
from neurogen.validation import validation_of
from neurogen.zoo import load_zoo


def tune(step: Tune, runtime: Runtime) -> dict[str, Any]:
    dataset = step.task.load()
    network = build_network(step.task.target, dataset.shape).to(runtime.device)
    generator = _starting_point(step, dataset, network, runtime)
    task = generator.tasks[step.task.label]
    zoo = _zoo_to_hold_on_to(step, task, dataset, network, runtime)
    batch_size = min(step.stage.batch_size, len(dataset.train))

    def loss(generate: Generate, number: int, which: int) -> Tensor:
        """eq. 2: the loss is taken on many samples, of which the backbone reads a few."""
        random = generator_of(step.seed, "tune", number, which)
        batch = dataset.train.sample(batch_size, random)
        context = Context.of(dataset.train, dataset.class_names, batch[: step.generator.context_samples])
        z = generate(task.name, task.instruction, context)
        inputs, labels = dataset.train.inputs(batch).to(runtime.device), dataset.train.labels[batch].to(runtime.device)
        fits = tuning_loss(network, generator.decode(task.name, z), inputs, labels)
        return fits if zoo is None else fits + step.stage.anchor * injection_loss(z, zoo)

    objective = Objective(
        name="tune",
        module=generator,
        loss=loss,
        validate=validation_of(generator, task, network, dataset, step.seed, runtime),
        num_tokens_read=lambda: generator.backbone.num_tokens_read,
        passes_per_step=passes_of(step.backbone),
        steps_per_epoch=math.ceil(len(dataset.train) / batch_size),
    )
    history = train(objective, step.stage, step.folder, step.checkpoint_every, runtime)
    if runtime.is_first:
        save_generator(generator, step.backbone, step.folder)
    return {"history": history}


def _zoo_to_hold_on_to(
    step: Tune, task: TaskDescription, dataset: Dataset, network: nn.Module, runtime: Runtime
) -> ZooMoments | None:
    """With recipe.tune.anchor stage 2 keeps a part of L1: few samples tell less of a good network than a zoo does."""
    if not step.stage.anchor or step.inject is None:
        return None
    zoo = load_zoo(step.inject.references, dataset, network, step.inject.align)
    return ZooMoments.of(task.scale.encode(zoo).to(runtime.device))


def _starting_point(step: Tune, dataset: Dataset, network: nn.Module, runtime: Runtime) -> Generator:
    scale = Scale.of_fan_in(ParameterLayout.of(network), step.generator.soft_clip)
    task = TaskDescription.of(dataset, step.task.dataset, step.task.target, scale)
    if step.inject is None:
        return build_generator(step.backbone, step.generator, [task], step.seed, runtime)
    generator = load_generator(step.inject.folder, runtime, step.backbone.gradient_checkpointing)
    require_same(dataset, generator.tasks[step.inject.task.label].fingerprint, step.inject.folder)
    return generator if step.inject.task == step.task else transferred(generator, task)
