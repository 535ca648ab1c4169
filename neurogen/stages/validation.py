"""Validation during training: for each task, networks generated from fixed contexts, on the validation split.

in:  the generator, its tasks
out: loss and accuracy, averaged over the tasks; of lists of named classes also how many rows are those of the classes
     that are meant, and what tells names from words that mean nothing (known.py)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from neurogen.config import Keep
from neurogen.data.splits import SplitName
from neurogen.generator.generator import Generator
from neurogen.generator.known import KnownRows, fitted, rows_in
from neurogen.generator.latent import draw_code
from neurogen.generator.prompts import Prompt
from neurogen.generator.task import Task
from neurogen.rng import rng_of
from neurogen.stages.episode import Episode
from neurogen.stages.listed import Listed, meaningless_words
from neurogen.stages.task_data import TaskData
from neurogen.targets.prediction import Batches, judge
from neurogen.training.history import Metrics
from neurogen.training.loop import Validate

NUM_LISTS = 8  # of a task whose prompts list classes; of any other task one context says as much
NUM_MEANINGLESS = 4  # lists of words that mean nothing
NUM_CODES = 4  # where networks have codes


@dataclass(frozen=True)
class Judged:
    """A network that is judged: what it is generated from, and the samples of its classes."""

    episode: Episode
    prompt: Prompt
    samples: Batches


def validation_of(generator: Generator, tasks: Sequence[TaskData], seed: int, at_once: int) -> Validate:
    """A function that measures validation_loss and validation_accuracy, averaged over the tasks. With several tasks its
    row also has the accuracy of each. Every call uses the same contexts, of which it reads at most so many at once."""
    judged = [_judged(generator, data, seed) for data in tasks]
    meaningless = [_meaningless(data, seed) for data in tasks]

    @torch.no_grad()
    def validate() -> Metrics:
        losses: dict[str, float] = {}
        accuracies: dict[str, float] = {}
        rows: Metrics = {}
        for data, networks, words in zip(tasks, judged, meaningless, strict=True):
            name = data.task.name
            prompts = [network.prompt for network in networks] + words
            by_index = dict(generator.in_batches(name, prompts, at_once))
            z = [by_index[index] for index in range(len(prompts))]
            figures = [_judge(generator, data, network, row) for network, row in zip(networks, z, strict=False)]
            losses[name], accuracies[name] = (sum(column) / len(column) for column in torch.stack(figures).T.tolist())
            rows |= _rows_of(data.task, networks, prompts, z) if words else {}
        row = {
            "validation_loss": sum(losses.values()) / len(tasks),
            "validation_accuracy": sum(accuracies.values()) / len(tasks),
        }
        if len(tasks) > 1:
            row |= {f"validation_accuracy/{name}": accuracy for name, accuracy in accuracies.items()}
        return row | rows

    return validate


def _judged(generator: Generator, data: TaskData, seed: int) -> list[Judged]:
    networks = []
    latent = generator.config.latent
    for number in range(NUM_LISTS if data.task.lists_classes else NUM_CODES if latent else 1):
        rng = rng_of(seed, "validation", number) if number else rng_of(seed, "validation")
        index = data.dataset.train.sample(len(data.dataset.train), rng)
        episode = data.draw_episode(rng, rng, SplitName.VALIDATION)
        context = data.context(index, episode, generator.config)
        prompt = Prompt(data.task.instruction, context, episode.listed_names, draw_code(latent, rng))
        networks.append(Judged(episode, prompt, data.validation(episode)))
    return networks


def _meaningless(data: TaskData, seed: int) -> list[Prompt]:
    """Lists of words that mean nothing, as long as training's lists are at most; none where prompts list no classes."""
    if data.task.most_listed is None:
        return []
    rng = rng_of(seed, "validation", "meaningless")
    words = [meaningless_words(data.task.most_listed, SplitName.VALIDATION, rng) for _ in range(NUM_MEANINGLESS)]
    return [Prompt(data.task.instruction, None, listed) for listed in words]


def _judge(generator: Generator, data: TaskData, network: Judged, z: Float[Tensor, " _"]) -> Float64[Tensor, " 2"]:
    listed = network.episode.listed_names
    tensors = generator.decode(data.task.name, z, None if listed is None else len(listed))
    return judge(data.network, tensors, network.samples)


def _rows_of(
    task: Task, networks: Sequence[Judged], prompts: Sequence[Prompt], z: Sequence[Float[Tensor, " _"]]
) -> Metrics:
    """Of lists of classes, and after them of words that mean nothing: the share of names whose rows are those of the
    class that is meant, and what tells names from words (known.py)."""
    if task.known is None:
        return {}
    layouts = [task.layout.with_rows(len(prompt.listed or ())) for prompt in prompts]
    rows = [rows_in(row, layout).cpu() for row, layout in zip(z, layouts, strict=True)]
    named, words = torch.cat(rows[: len(networks)]), torch.cat(rows[len(networks) :])
    classes = torch.cat([network.episode.classes for network in networks if isinstance(network.episode, Listed)])
    right = (task.known.distances(named).argmin(1) == classes).double().mean()
    known = fitted(task.known.rows, named, classes, words)
    figures = {"right_rows": right, "row_variance": known.variance, "row_limit": known.limit}
    return {f"{figure}/{task.name}": float(value) for figure, value in figures.items()}


def note_known(generator: Generator, history: Sequence[Metrics], keep: Keep) -> None:
    """Note in the tasks that list classes what tells known rows from others, at the step whose values the generator
    has."""
    validated = [row for row in history if "validation_accuracy" in row]
    kept = validated[-1] if keep == Keep.last else max(reversed(validated), key=lambda row: row["validation_accuracy"])
    tasks = dict(generator.tasks)
    for name, task in tasks.items():
        if task.known is not None:
            variance, limit = (torch.tensor(kept[f"{figure}/{name}"]) for figure in ("row_variance", "row_limit"))
            tasks[name] = replace(task, known=KnownRows(task.known.rows, variance, limit))
    generator.tasks = tasks
