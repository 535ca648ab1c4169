"""Validation during training: for each task, the network generated from one fixed context, on the validation split."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from neurogen.generator.generator import Generator
from neurogen.generator.prompts import Prompt
from neurogen.rng import rng_of
from neurogen.stages.task_data import TaskData
from neurogen.targets.prediction import evaluate_network
from neurogen.training.history import Metrics
from neurogen.training.loop import Validate


def validation_of(generator: Generator, tasks: Sequence[TaskData], seed: int) -> Validate:
    """A function that measures validation_loss and validation_accuracy, averaged over the tasks. With several tasks its
    row also has the accuracy of each. Every call uses the same contexts."""
    contexts = []
    for data in tasks:
        rng = rng_of(seed, "validation")
        index = data.dataset.train.sample(len(data.dataset.train), rng)
        episode = data.draw_episode(rng, held_out=True)
        contexts.append((data, episode, data.context(index, episode, generator.config)))

    @torch.no_grad()
    def validate() -> Metrics:
        losses, accuracies = {}, {}
        for data, episode, context in contexts:
            task = data.task
            (generated,) = generator(task.name, [Prompt(task.instruction, context)])
            z = episode.restored(generated)
            tensors = generator.decode(task.name, z)
            losses[task.name], accuracies[task.name] = evaluate_network(data.network, tensors, data.validation)
        row = {
            "validation_loss": sum(losses.values()) / len(contexts),
            "validation_accuracy": sum(accuracies.values()) / len(contexts),
        }
        if len(contexts) > 1:
            row |= {f"validation_accuracy/{name}": accuracy for name, accuracy in accuracies.items()}
        return row

    return validate
