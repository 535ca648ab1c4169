"""Validation during training: for each task, networks generated from fixed contexts, on the validation split.

in:  the generator, its tasks
out: loss and accuracy, averaged over the tasks; of lists of named classes also how many rows are those of the classes
     that are meant, and how far generated rows lie from them (known.py)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from neurogen.config import Keep
from neurogen.data.folders import SplitName
from neurogen.generator.generator import Generator
from neurogen.generator.known import KnownRows, fitted_variance, rows_in
from neurogen.generator.prompts import Prompt
from neurogen.rng import rng_of
from neurogen.stages.episode import Episode
from neurogen.stages.listed import Listed
from neurogen.stages.task_data import TaskData
from neurogen.targets.prediction import Batches, evaluate_network
from neurogen.training.history import Metrics
from neurogen.training.loop import Validate

NUM_LISTS = 8  # of a task whose prompts list classes; of any other task one context says as much


@dataclass(frozen=True)
class Judged:
    """A network that is judged: what it is generated from, and the samples of its classes."""

    data: TaskData
    episode: Episode
    prompt: Prompt
    samples: Batches


def validation_of(generator: Generator, tasks: Sequence[TaskData], seed: int) -> Validate:
    """A function that measures validation_loss and validation_accuracy, averaged over the tasks. With several tasks its
    row also has the accuracy of each. Every call uses the same contexts."""
    judged = [network for data in tasks for network in _judged(generator, data, seed)]

    @torch.no_grad()
    def validate() -> Metrics:
        measured: dict[str, list[tuple[float, float]]] = defaultdict(list)
        named: dict[str, list[tuple[Listed, Tensor]]] = defaultdict(list)
        for network in judged:
            task, episode = network.data.task, network.episode
            (z,) = generator(task.name, [network.prompt])
            listed = None if episode.listed_names is None else len(episode.listed_names)
            tensors = generator.decode(task.name, z, listed)
            measured[task.name].append(evaluate_network(network.data.network, tensors, network.samples))
            if isinstance(episode, Listed):
                named[task.name].append((episode, z))
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
        for data in tasks:
            row |= _rows_of(data, named[data.task.name])
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
        networks.append(Judged(data, episode, prompt, data.validation(episode)))
    return networks


def _rows_of(data: TaskData, networks: Sequence[tuple[Listed, Float[Tensor, " _"]]]) -> Metrics:
    """Of networks for lists of named classes: the share of rows that are those of the class that is meant, and the
    variance of rows around these."""
    known = data.task.known
    if known is None or not networks:
        return {}
    layouts = [data.task.layout.with_rows(len(episode.classes)) for episode, _ in networks]
    rows = [rows_in(z, layout) for (_, z), layout in zip(networks, layouts, strict=True)]
    distances, classes = known.distances(torch.cat(rows)), torch.cat([episode.classes for episode, _ in networks])
    right = (distances.argmin(1) == classes).double().mean()
    variance = fitted_variance(distances, classes)
    return {f"right_rows/{data.task.name}": float(right), f"row_variance/{data.task.name}": float(variance)}


def note_variance(generator: Generator, history: Sequence[Metrics], keep: Keep) -> None:
    """Note in the tasks that list classes the variance of rows at the step whose values the generator has."""
    validated = [row for row in history if "validation_accuracy" in row]
    kept = validated[-1] if keep == Keep.last else max(reversed(validated), key=lambda row: row["validation_accuracy"])
    tasks = dict(generator.tasks)
    for name, task in tasks.items():
        if task.known is not None:
            variance = torch.tensor(kept[f"row_variance/{name}"])
            tasks[name] = replace(task, known=KnownRows(task.known.rows, variance))
    generator.tasks = tasks
