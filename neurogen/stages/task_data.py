"""A task as a stage trains on it: its data, its target network, its zoo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from neurogen.config import GeneratorConfig
from neurogen.data.dataset import Dataset, Split
from neurogen.data.splits import SplitName
from neurogen.generator.context import Context
from neurogen.generator.latent import Code
from neurogen.generator.losses import ZooMoments
from neurogen.generator.task import Task
from neurogen.stages.episode import Episode, draw_episode, restricted
from neurogen.targets.prediction import Batches


@dataclass(frozen=True)
class TaskData:
    """What a stage needs of one of its tasks."""

    task: Task
    dataset: Dataset  # on the CPU, where contexts are drawn
    network: nn.Module
    zoo: ZooMoments | None  # as z-scores; None where the stage has no anchor

    @property
    def loss_of_chance(self) -> float:
        """The cross-entropy of a network that guesses: the unit in which the tasks of a generator are balanced."""
        return math.log(len(self.task.class_names))

    @cached_property
    def placed(self) -> Dataset:
        """The data on the device of the target network, copied there once; nothing is copied on a CPU."""
        return self.dataset.to(next(self.network.parameters()).device)

    @property
    def train(self) -> Split:
        """The training samples on the device of the target network, for the loss."""
        return self.placed.train

    def validation(self, episode: Episode) -> Batches:
        """The validation samples of a context as its network reads them."""
        return Batches(restricted(self.placed.validation, episode), self.placed.validation.labels.device)

    def draw_episode(self, rng: torch.Generator, step_rng: torch.Generator, split: SplitName) -> Episode:
        """The task of one context (episode.py)."""
        return draw_episode(self.task.dataset, self.task.class_names, self.task.layout, rng, step_rng, split)

    def context(self, index: Int64[Tensor, " samples"], episode: Episode, config: GeneratorConfig) -> Context:
        """As many of these training samples as the generator reads, named as in the episode."""
        return Context.first(self.dataset.train, episode.class_names, index, config)

    def zoo_of(self, episode: Episode, code: Code | None = None) -> ZooMoments:
        """The moments of the zoo for the labels of the episode, around the network with this code."""
        assert self.zoo is not None
        moments = self.zoo.at(code)
        mean, variance = episode.parameters(moments.mean), episode.parameters(moments.variance)
        if episode.listed_names is None:
            return ZooMoments(mean, variance)
        num_inner = self.task.layout.firsts[self.task.layout.output[0]]
        return ZooMoments(mean, variance, (num_inner, len(mean) - num_inner))  # few parameters are in the listed rows


def balance_of(tasks: Sequence[TaskData]) -> list[float]:
    """The factor of each task's cross-entropy, so that all tasks weigh the same; 1 for a single task."""
    units = [1 / data.loss_of_chance for data in tasks]
    return [unit * len(units) / sum(units) for unit in units]
