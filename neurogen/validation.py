"""How good a generator is while it is trained: for each task the network that it generates from one fixed context, on
validation."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from neurogen.generator import Generator
from neurogen.runtime import Runtime, generator_of
from neurogen.subject import Subject
from neurogen.training import Row, Validate
from neurogen.zoo import evaluate_network


def validation_of(generator: Generator, subjects: Sequence[Subject], seed: int, runtime: Runtime) -> Validate:
    """A function that measures validation_loss and validation_accuracy, means over the tasks, and with several the
    accuracy of each; the same contexts at every call."""
    prepared = []
    for subject in subjects:
        random = generator_of(seed, "validation")
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
