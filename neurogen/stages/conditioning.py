"""Conditions under which a generator is evaluated: right instruction and data, and the same with something wrong.

in:  a generator, one of its tasks, contexts of that task
out: under every condition a network for each context, as z-scores

A generator that follows instruction and data does worse where they are wrong. One that serves a single task need not
follow them. With `order=tokens_first` it cannot, and is as accurate.
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
from neurogen.generator.latent import draw_code
from neurogen.generator.prompts import Prompt, task_instruction
from neurogen.generator.task import Task
from neurogen.progress import Progress
from neurogen.rng import rng_of
from neurogen.stages.embed import text_split, token_ids
from neurogen.targets.parameters import Scale
from neurogen.training.runtime import Runtime

RIGHT = "right"
ANOTHER_TASK = {"image": ("RNN", "AG News"), "text": ("LeNet", "CIFAR-10")}  # by modality: network, data

Change = Callable[[Context, torch.Generator], Context | None]


@dataclass(frozen=True)
class Condition:
    """An instruction, and what is done to a right context before the generator reads it."""

    name: str
    instruction: str
    change: Change = lambda context, rng: context


def conditions_of(generator: Generator, task: Task, others: Mapping[str, Dataset]) -> list[Condition]:
    """The right condition first; the others are named by what is wrong with them.

    `others` holds the data of the generator's other tasks, by the names of these tasks. Where it is empty, the wrong
    instruction and the wrong data are of a task that the generator has never met.
    """
    right = task.instruction
    wrong = _wrong_instructions(generator, task, others)
    conditions = [
        Condition(RIGHT, right),
        Condition("instruction shuffled", _shuffled(right)),
        *(Condition(name, instruction) for name, instruction in wrong.items()),
        Condition("no instruction", ""),
    ]
    if not generator.config.context_samples:
        return conditions
    data = {f"data of {other.name}": (other.train, other.class_names) for other in _readable(generator, task, others)}
    data = data or {"data of another task": _another_task(generator, task)}
    conditions += [
        Condition("labels shuffled", right, lambda context, rng: relabelled(context, task, rng)),
        *(Condition(name, right, _from(*source, generator.config)) for name, source in data.items()),
        Condition("no data", right, lambda *_: None),
    ]
    if others:
        conditions += [Condition(f"{name}, no data", text, lambda *_: None) for name, text in wrong.items()]
    return conditions


def _shuffled(instruction: str) -> str:
    words = instruction.split()
    order = torch.randperm(len(words), generator=rng_of("conditions", len(words)))
    return " ".join(words[index] for index in order)


def _wrong_instructions(generator: Generator, task: Task, others: Mapping[str, Dataset]) -> dict[str, str]:
    """By the name of the condition."""
    instructions = {f"instruction of {name}": generator.tasks[name].instruction for name in others}
    differing = {name: text for name, text in instructions.items() if text != task.instruction}
    return differing or {"instruction of another task": task_instruction(*ANOTHER_TASK[task.target.modality])}


def _readable(generator: Generator, task: Task, others: Mapping[str, Dataset]) -> list[Dataset]:
    """Data of other tasks, each dataset once, that can take the place of this task's: of the same shape, or texts."""
    alike = {
        other.name: other
        for name, other in others.items()
        if other.fingerprint != task.fingerprint and generator.tasks[name].reads_like(task)
    }
    return list(alike.values())


def _from(split: Split, class_names: tuple[str, ...], config: GeneratorConfig) -> Change:
    return lambda _, rng: Context.sample(split, class_names, config, rng)


@torch.no_grad()
def generate_under(
    conditions: Sequence[Condition],
    contexts: Sequence[Context],
    generator: Generator,
    task: Task,
    seed: int,
    runtime: Runtime,
) -> dict[str, Float[Tensor, "contexts params"]]:
    """Z-scores by the name of the condition; as many contexts at once as `runtime.batch_tokens` allows.

    Raises Interrupted when the stop flag is set.
    """
    z: dict[str, list[Tensor]] = {condition.name: [] for condition in conditions}
    at_once = generator.prompts_at_once(runtime.batch_tokens)
    latent = generator.config.latent
    codes = [draw_code(latent, rng_of(seed, "code", index)) for index in range(len(contexts))]  # whatever the condition
    with Progress("generated", len(conditions) * len(contexts), unit="networks") as progress:
        for condition in conditions:
            changed = [
                condition.change(context, rng_of(seed, "condition", index)) for index, context in enumerate(contexts)
            ]
            for first in range(0, len(changed), at_once):
                if runtime.stop.is_set():
                    raise Interrupted
                pairs = list(zip(changed, codes, strict=True))[first : first + at_once]
                prompts = [Prompt(condition.instruction, context, code=code) for context, code in pairs]
                z[condition.name].append(generator(task.name, prompts).cpu())
                progress.advance(len(prompts))
    return {name: torch.cat(networks) for name, networks in z.items()}


def change_from(
    right: Float[Tensor, "contexts params"], other: Float[Tensor, "contexts params"], of_zoo: Scale
) -> Float[Tensor, " contexts"]:
    """Root mean square of what a condition changes in the parameters, context by context, in standard deviations of
    each tensor in the zoo: whatever the generator's own scale is, and after its soft clipping."""
    return (of_zoo.encode(other) - of_zoo.encode(right)).square().mean(1).sqrt()


def relabelled(context: Context, task: Task, rng: torch.Generator) -> Context:
    """Every sample under the name of another class; samples with equal names still have equal names."""
    order = torch.randperm(len(task.class_names), generator=rng).tolist()
    names = [task.class_names[label] for label in order]
    following = dict(zip(names, [*names[1:], names[0]], strict=True))
    return replace(context, labels=tuple(following[label] for label in context.labels))


def _another_task(generator: Generator, task: Task) -> tuple[Split, tuple[str, ...]]:
    """Samples of a task that the generator has never met, prepared as this task's are, and their classes' names."""
    if isinstance(task.shape, ImageShape):
        photographs = foreign.photographs(task.shape)
        samples, labels = torch.from_numpy(photographs.samples), torch.from_numpy(photographs.labels)
        return Split(samples, labels, task.preparation), foreign.PHOTOGRAPHS
    assert isinstance(task.preparation, TokenEmbedding)
    sentences = foreign.sentences()
    ids = token_ids(list(sentences.samples), generator.backbone.tokenizer)
    return text_split(ids, sentences.labels, task.dataset, task.preparation), foreign.TABLES
