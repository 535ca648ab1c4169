"""A task as a stage learns it: its data, its target network, its zoo; and what a step shows the generator of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from neurogen.config import GeneratorConfig
from neurogen.data.dataset import Dataset
from neurogen.generator.generator import ZooMoments
from neurogen.generator.task import Context, Task
from neurogen.stages.relabel import Relabelling


@dataclass(frozen=True)
class TaskData:
    task: Task
    dataset: Dataset
    network: nn.Module
    zoo: ZooMoments | None  # as z-scores

    @property
    def loss_of_chance(self) -> float:
        """The cross-entropy of a network that knows nothing: the unit in which tasks of one generator are balanced."""
        return math.log(len(self.task.class_names))

    def relabelling(self, random: torch.Generator, held_out: bool) -> Relabelling | None:
        """None: the labels are what they are."""
        if self.task.dataset.relabel is None:
            return None
        return Relabelling.drawn(len(self.task.class_names), random, held_out)

    def context(
        self, index: Int64[Tensor, " samples"], relabelling: Relabelling | None, config: GeneratorConfig
    ) -> Context:
        """Of these training samples as many as the generator reads."""
        names = self.task.class_names if relabelling is None else relabelling.names(self.task.class_names)
        return Context.first(self.dataset.train, names, index, config)

    def zoo_for(self, relabelling: Relabelling | None) -> ZooMoments:
        """The zoo of networks for these labels."""
        assert self.zoo is not None
        if relabelling is None:
            return self.zoo
        moved = (relabelling.parameters(part, self.task.layout) for part in (self.zoo.mean, self.zoo.variance))
        return ZooMoments(*moved)

    def for_classes(self, z: Float[Tensor, " params"], relabelling: Relabelling | None) -> Float[Tensor, " params"]:
        """A network for these labels as one for the classes of the data."""
        return z if relabelling is None else relabelling.undone(z, self.task.layout)


def shown(
    config: GeneratorConfig,
    subject: TaskData,
    context: Context,
    task_data: Sequence[TaskData],
    of_step: torch.Generator,
    random: torch.Generator,
) -> tuple[str, Context | None]:
    """(instruction, context) of one network. One of them may be left out, or the data be another task's: it is then the
    instruction that counts. Which, is one and the same for all networks of a step, since ranks must use the same
    modules at the same time."""
    chance = float(torch.rand((), generator=of_step))
    if chance < config.drop_instruction:
        return "", context
    instruction = subject.task.instruction
    if chance < config.drop_instruction + config.drop_data:
        return instruction, None
    foreign = {one.task.fingerprint: one.dataset for one in task_data if _is_foreign(one.task, subject.task)}
    if foreign and chance < config.drop_instruction + config.drop_data + config.foreign_data:
        other = list(foreign.values())[int(torch.randint(len(foreign), (), generator=random))]
        return instruction, Context.sample(other.train, other.class_names, config, random)
    return instruction, context


def _is_foreign(other: Task, task: Task) -> bool:
    """Whether its data can stand where the task's do, and the instruction tells the two apart."""
    return other.reads_like(task) and other.dataset.title != task.dataset.title


def balance_of(task_data: list[TaskData]) -> list[float]:
    """What to multiply the cross-entropy of each with, so that all weigh alike; 1 where there is one."""
    units = [1 / subject.loss_of_chance for subject in task_data]
    return [unit * len(units) / sum(units) for unit in units]
