"""How good a generator is while it is trained: for each task the network that it generates from one fixed context, on
validation."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from neurogen.generator.generator import Generator
from neurogen.rng import rng_of
from neurogen.stages.task_data import TaskData
from neurogen.targets.prediction import evaluate_network
from neurogen.training.loop import Row, Validate
from neurogen.training.runtime import Runtime


def validation_of(generator: Generator, task_data: Sequence[TaskData], seed: int, runtime: Runtime) -> Validate:
    """A function that measures validation_loss and validation_accuracy, means over the tasks, and with several the
    accuracy of each; the same contexts at every call."""
    prepared = []
    for subject in task_data:
        random = rng_of(seed, "validation")
        index = subject.dataset.train.sample(len(subject.dataset.train), random)
        relabelling = subject.relabelling(random, held_out=True)
        prepared.append((subject, relabelling, subject.context(index, relabelling, generator.config)))

    @torch.no_grad()
    def validate() -> Row:
        losses, accuracies = {}, {}
        for subject, relabelling, context in prepared:
            task = subject.task
            z = subject.for_classes(generator(task.name, task.instruction, context), relabelling)
            measured = evaluate_network(
                subject.network, generator.decode(task.name, z), subject.dataset.validation, runtime
            )
            losses[task.name], accuracies[task.name] = measured
        row = {
            "validation_loss": sum(losses.values()) / len(prepared),
            "validation_accuracy": sum(accuracies.values()) / len(prepared),
        }
        if len(prepared) > 1:
            row |= {f"validation_accuracy/{name}": accuracy for name, accuracy in accuracies.items()}
        return row

    return validate
