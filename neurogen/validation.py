"""How good a generator is while it is trained: the network that it generates from one fixed context, on validation."""

from __future__ import annotations

import torch
from torch import nn

from neurogen.data.dataset import Dataset
from neurogen.generator import Generator
from neurogen.runtime import Runtime, generator_of
from neurogen.task import Context, TaskDescription
from neurogen.training import Row, Validate
from neurogen.zoo import evaluate_network


def validation_of(
    generator: Generator, task: TaskDescription, network: nn.Module, dataset: Dataset, seed: int, runtime: Runtime
) -> Validate:
    """A function that measures validation_loss and validation_accuracy; the same context at every call."""
    context = Context.sample(
        dataset.train, dataset.class_names, generator.config.context_samples, generator_of(seed, "validation")
    )

    def validate() -> Row:
        with torch.no_grad():
            tensors = generator.decode(task.name, generator(task.name, task.instruction, context))
        loss, accuracy = evaluate_network(network, tensors, dataset.validation, runtime)
        return {"validation_loss": loss, "validation_accuracy": accuracy}

    return validate
