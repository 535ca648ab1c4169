"""Prompts: what the backbone reads beside the parameter tokens; the wording of instructions (paper 3.3.1 and 3.4.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from neurogen.generator.context import Context
from neurogen.generator.latent import Code

GENERIC = "Please help generate parameters of neural networks."  # I_s1


@dataclass(frozen=True)
class Prompt:
    """The instruction, and the samples for one network; None: the instruction alone."""

    instruction: str
    context: Context | None
    listed: tuple[str, ...] | None = None  # names of the classes of the network, in the order of its rows
    code: Code | None = None  # with generator.latent: which of the networks; None: the one in the middle


def batches_of(prompts: Sequence[Prompt], at_once: int) -> list[list[int]]:
    """The indices of prompts that are read as one batch: at most so many, and they list equally many classes."""

    def length(index: int) -> int:
        return len(prompts[index].listed or ())

    groups = [list(group) for _, group in groupby(sorted(range(len(prompts)), key=length), key=length)]
    return [group[first : first + at_once] for group in groups for first in range(0, len(group), at_once)]


def task_instruction(network: str, dataset: str) -> str:
    """I_s2 for a target and a dataset, both by their titles."""
    return (
        f"Please help generate parameters of the {network} neural network "
        f"to conduct the classification task with the {dataset} data samples."
    )


def listing_instruction(network: str) -> str:
    """What stands before a list of classes; the network by its title."""
    return f"Please help generate parameters of the {network} neural network that tells these classes apart:"


def item_of(name: str) -> str:
    """The name of a class as a prompt lists it."""
    return f"\n- {name}:"


def mentioned(instruction: str, titles: Iterable[str]) -> set[str]:
    """The titles that an instruction contains as whole words, longer titles first: "wide CNN" is no "CNN"."""
    matches = set()
    for title in sorted(titles, key=len, reverse=True):
        pattern = re.compile(rf"(?<!\w){re.escape(title)}(?!\w)", re.IGNORECASE)
        if pattern.search(instruction):
            matches.add(title)
            instruction = pattern.sub("\n", instruction)
    return matches
