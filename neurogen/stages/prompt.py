"""The prompt of one network in training: its instruction and its context, of which one may be left out or replaced.

A generator of several tasks must follow its instruction and its data. So now and then the instruction is left out
(generator.drop_instruction), or the data (drop_data), or the data are those of another task (foreign_data), and the
instruction counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from neurogen.config import GeneratorConfig
from neurogen.generator.context import Context
from neurogen.generator.prompts import Prompt
from neurogen.generator.task import Task
from neurogen.stages.episode import Episode
from neurogen.stages.task_data import TaskData


def draw_prompt(
    config: GeneratorConfig,
    data: TaskData,
    episode: Episode,
    context: Context,
    tasks: Sequence[TaskData],
    step_rng: torch.Generator,
    rng: torch.Generator,
) -> Prompt:
    """The prompt for an episode and a context of `data`, one of the generator's `tasks`.

    `step_rng` decides what is left out or replaced. It is the same for all networks of a step, since ranks must use the
    same modules at the same time. `rng` is the network's own.
    """
    chance = float(torch.rand((), generator=step_rng))
    if chance < config.drop_instruction:
        return Prompt("", context, episode.listed_names)
    instruction = data.task.instruction
    if chance < config.drop_instruction + config.drop_data:
        return Prompt(instruction, None, episode.listed_names)
    foreign = {other.task.fingerprint: other.dataset for other in tasks if _is_foreign(other.task, data.task)}
    if foreign and chance < config.drop_instruction + config.drop_data + config.foreign_data:
        dataset = list(foreign.values())[int(torch.randint(len(foreign), (), generator=rng))]
        return Prompt(instruction, Context.sample(dataset.train, dataset.class_names, config, rng))
    return Prompt(instruction, context, episode.listed_names)


def _is_foreign(other: Task, task: Task) -> bool:
    """Whether its samples fit into the task's context, and the instruction tells the two apart."""
    return other.reads_like(task) and other.dataset.title != task.dataset.title
