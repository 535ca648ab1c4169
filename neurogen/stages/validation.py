"""Validation during training: for each task, networks generated from fixed contexts, on the validation split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from neurogen.data.folders import SplitName
from neurogen.generator.generator import Generator
from neurogen.generator.prompts import Prompt
from neurogen.rng import rng_of
from neurogen.stages.task_data import TaskData
from neurogen.targets.prediction import Batches, evaluate_network
from neurogen.training.history import Metrics
from neurogen.training.loop import Validate

NUM_LISTS = 8  # of a task whose contexts list classes; of any other task one context says as much


@dataclass(frozen=True)
class Judged:
    """A network that is judged: what it is generated from, and the samples of its classes."""

    task: str
    prompt: Prompt
    samples: Batches


def validation_of(generator: Generator, tasks: Sequence[TaskData], seed: int) -> Validate:
    """A function that measures validation_loss and validation_accuracy, averaged over the tasks. With several tasks its
    row also has the accuracy of each. Every call uses the same contexts."""
    judged = [network for data in tasks for network in _judged(generator, data, seed)]
    networks = {data.task.name: data.network for data in tasks}

    @torch.no_grad()
    def validate() -> Metrics:
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in networks}
        for each in judged:
            (z,) = generator(each.task, [each.prompt])
            listed = each.prompt.listed
            tensors = generator.decode(each.task, z, None if listed is None else len(listed))
            measured[each.task].append(evaluate_network(networks[each.task], tensors, each.samples))
        losses, accuracies = (
            {name: sum(pair[index] for pair in pairs) / len(pairs) for name, pairs in measured.items()}
            for index in range(2)
        )
        row = {
            "validation_loss": sum(losses.values()) / len(tasks),
            "validation_accuracy": sum(accuracies.values()) / len(tasks),
        }
        if len(tasks) > 1:
            row |= {f"validation_accuracy/{name}": accuracy for name, accuracy in accuracies.items()}
        return row

    return validate


def _judged(generator: Generator, data: TaskData, seed: int) -> list[Judged]:
    networks = []
    for number in range(NUM_LISTS if data.task.lists_classes else 1):
        rng = rng_of(seed, "validation", number) if number else rng_of(seed, "validation")
        index = data.dataset.train.sample(len(data.dataset.train), rng)
        episode = data.draw_episode(rng, rng, SplitName.VALIDATION)
        context = data.context(index, episode, generator.config)
        prompt = Prompt(data.task.instruction, context, episode.listed_names)
        networks.append(Judged(data.task.name, prompt, data.validation(episode)))
    return networks
