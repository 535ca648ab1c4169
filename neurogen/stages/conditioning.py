"""What a generator makes of its condition: right contexts, and the same ones with something wrong about them.

in:  a generator, one of its tasks, contexts of that task
out: under every condition a network for each context, as z-scores

Who follows an instruction and data does worse where they are wrong. Who serves a single task need not follow them:
with `order=tokens_first` a generator cannot, and is as accurate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from neurogen.config import GeneratorConfig
from neurogen.data import foreign
from neurogen.data.dataset import Dataset, Split
from neurogen.data.preparation import ImageShape, TokenEmbedding
from neurogen.errors import Interrupted
from neurogen.generator.context import Context
from neurogen.generator.generator import Generator
from neurogen.generator.prompts import task_instruction
from neurogen.generator.task import Task
from neurogen.progress import Progress
from neurogen.rng import rng_of
from neurogen.stages.embed import text_split, token_ids
from neurogen.training.runtime import Runtime

RIGHT = "right"
ANOTHER_TASK = {"image": ("RNN", "AG News"), "text": ("LeNet", "CIFAR-10")}  # by modality: network, data

Change = Callable[[Context, torch.Generator], Context | None]


@dataclass(frozen=True)
class Condition:
    """An instruction, and what becomes of a right context."""

    name: str
    instruction: str
    change: Change = lambda context, random: context


def conditions_of(generator: Generator, task: Task, others: Mapping[str, Dataset]) -> list[Condition]:
    """The right one first; what is wrong with the others is their name. `others` is the data of the generator's other
    tasks; where there are none, a task that it has never met stands for them."""
    right = task.instruction
    words = right.split()
    order = torch.randperm(len(words), generator=rng_of("conditions", len(words)))
    wrong = {f"instruction of {name}": generator.tasks[name].instruction for name in others}
    wrong = {name: instruction for name, instruction in wrong.items() if instruction != right}
    wrong = wrong or {"instruction of another task": task_instruction(*ANOTHER_TASK[task.target.modality])}
    conditions = [
        Condition(RIGHT, right),
        Condition("instruction shuffled", " ".join(words[number] for number in order)),
        *(Condition(name, instruction) for name, instruction in wrong.items()),
        Condition("no instruction", ""),
    ]
    if not generator.config.context_samples:
        return conditions
    data = {f"data of {other.name}": (other.train, other.class_names) for other in _readable(generator, task, others)}
    data = data or {"data of another task": _another_task(generator, task)}
    conditions += [
        Condition("labels shuffled", right, lambda context, random: relabelled(context, task, random)),
        *(Condition(name, right, _from(*source, generator.config)) for name, source in data.items()),
        Condition("no data", right, lambda *_: None),
    ]
    if others:
        conditions += [Condition(f"{name}, no data", text, lambda *_: None) for name, text in wrong.items()]
    return conditions


def _readable(generator: Generator, task: Task, others: Mapping[str, Dataset]) -> list[Dataset]:
    """The data of other tasks, once each, that can stand where this task's data does: of the same shape, or texts."""
    alike = {
        other.name: other
        for name, other in others.items()
        if other.fingerprint != task.fingerprint and generator.tasks[name].reads_like(task)
    }
    return list(alike.values())


def _from(split: Split, class_names: tuple[str, ...], config: GeneratorConfig) -> Change:
    return lambda _, random: Context.sample(split, class_names, config, random)


@torch.no_grad()
def generate_under(
    conditions: Sequence[Condition],
    contexts: Sequence[Context],
    generator: Generator,
    task: Task,
    seed: int,
    runtime: Runtime,
) -> dict[str, Float[Tensor, "contexts params"]]:
    """One forward pass for every condition and context. Raises Interrupted when the stop flag is set."""
    found: dict[str, list[Tensor]] = {condition.name: [] for condition in conditions}
    with Progress("generated", len(conditions) * len(contexts), unit="networks") as progress:
        for condition in conditions:
            for number, context in enumerate(contexts):
                if runtime.stop.is_set():
                    raise Interrupted
                changed = condition.change(context, rng_of(seed, "condition", number))
                found[condition.name].append(generator(task.name, condition.instruction, changed).cpu())
                progress.advance()
    return {name: torch.stack(networks) for name, networks in found.items()}


def change_from(
    right: Float[Tensor, "contexts params"], other: Float[Tensor, "contexts params"]
) -> Float[Tensor, " contexts"]:
    """Root mean square of what a condition changes, in standard deviations of each tensor, context by context."""
    return (other - right).square().mean(1).sqrt()


def relabelled(context: Context, task: Task, random: torch.Generator) -> Context:
    """Every sample under the name of another class, equal ones under equal names."""
    order = torch.randperm(len(task.class_names), generator=random).tolist()
    names = [task.class_names[number] for number in order]
    following = dict(zip(names, [*names[1:], names[0]], strict=True))
    return replace(context, labels=tuple(following[label] for label in context.labels))


def _another_task(generator: Generator, task: Task) -> tuple[Split, tuple[str, ...]]:
    """Its samples, prepared as this task's are, and the names of its classes."""
    if isinstance(task.shape, ImageShape):
        found = foreign.photographs(task.shape)
        split = Split(torch.from_numpy(found.samples), torch.from_numpy(found.labels), task.preparation)
        return split, foreign.PHOTOGRAPHS
    assert isinstance(task.preparation, TokenEmbedding)
    found = foreign.sentences()
    ids = token_ids(list(found.samples), generator.backbone.tokenizer)
    return text_split(ids, found.labels, task.dataset, task.preparation), foreign.TABLES
