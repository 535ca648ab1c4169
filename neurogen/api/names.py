"""Classes that a user names: which list a generator reads, and what it takes every name for.

in:  the names that were given, a task whose prompts list classes
out: the list; for every name the known class that its row of the output layer is nearest to, and how likely that is
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neurogen.data.dataset import Split
from neurogen.errors import UserError, some_of
from neurogen.generator.known import rows_in
from neurogen.generator.task import Task
from neurogen.stages.episode import restricted
from neurogen.stages.listed import Listed
from neurogen.study.rows import DOUBTFUL

FEWEST = 2


@dataclass(frozen=True)
class Reading:
    """What a generator takes a name for."""

    name: str
    taken_for: str  # a class of the data that it was trained on
    probability: float  # of that class

    @property
    def is_doubtful(self) -> bool:
        """No class is likely to be meant."""
        return self.probability < DOUBTFUL


def listed(given: str | Sequence[str] | None, task: Task) -> tuple[str, ...]:
    """The names as a list; a text is cut at its commas.

    Raises UserError where the generator reads no lists, and for fewer than two names, empty ones, and two names that
    are the same or are known to mean the same class.
    """
    if not task.lists_classes:
        raise UserError(
            f"classes= lists classes by name, and this generator of {task.name} has learned its classes as they are; "
            "leave it out, or train a generator with preset=named"
        )
    if given is None:
        raise UserError(
            "this generator makes networks for lists of classes: give classes=NAME,NAME,… with other names for "
            f"{some_of(task.class_names)}, or with samples of any others"
        )
    names = tuple(" ".join(str(name).split()) for name in (given.split(",") if isinstance(given, str) else given))
    if len(names) < FEWEST or not all(names):
        raise UserError(
            f"classes={', '.join(names)!r} must be at least {FEWEST} names, none of them empty, with commas between "
            f"them; it knows {some_of(task.class_names)}, and other names for these"
        )
    seen: dict[str, str] = {}
    for name in names:
        meaning = class_of(name, task)
        for key in filter(None, (name.casefold(), meaning)):
            if key in seen:
                same = "is there twice" if seen[key].casefold() == name.casefold() else f"and {seen[key]} are one class"
                raise UserError(f"{name} {same}; name every class once")
        for key in filter(None, (name.casefold(), meaning)):
            seen[key] = name
    return names


def class_of(name: str, task: Task) -> str | None:
    """The class that has this name in dataset.names, or is called so itself; None for a name that is not there."""
    for class_name in task.class_names:
        names = task.dataset.names.get(class_name)
        known = [class_name, *(names.train + names.validation + names.test if names else [])]
        if name.casefold() in (other.casefold() for other in known):
            return class_name
    return None


def readings_of(z: Float[Tensor, " params"], names: Sequence[str], task: Task) -> list[Reading]:
    """What the rows of a generated network, given as z-scores, take the names for."""
    assert task.known is not None
    probabilities = task.known.probabilities(rows_in(z, task.layout.with_rows(len(names))))
    likeliest = probabilities.max(1)
    classes = [task.class_names[index] for index in likeliest.indices.tolist()]
    return [Reading(*each) for each in zip(names, classes, likeliest.values.tolist(), strict=True)]


def doubts(readings: Sequence[Reading], task: Task) -> list[str]:
    """What a user should know of a list, a line each."""
    lines = []
    for reading in readings:
        if reading.is_doubtful:
            lines.append(
                f"{reading.name} resembles nothing that is known; the nearest is {reading.taken_for} with "
                f"{100 * reading.probability:.0f} %"
            )
    if lines:
        lines[-1] += f". Known are {some_of(task.class_names)}"
    by_class: dict[str, str] = {}
    for reading in readings:
        other = by_class.setdefault(reading.taken_for, reading.name)
        if other != reading.name:
            lines.append(f"{other} and {reading.name} are both taken for {reading.taken_for}")
    most = task.most_listed or 0
    if len(readings) > most:
        lines.append(f"{len(readings)} classes are more than the {most} of the longest lists in training")
    return lines


def samples_of(split: Split, names: Sequence[str], task: Task) -> Split:
    """The samples of the listed classes, labelled by their places in the list.

    Raises UserError for a name of which it is not known what class it means.
    """
    meanings = {name: class_of(name, task) for name in names}
    unknown = [name for name, meaning in meanings.items() if meaning is None]
    if unknown:
        raise UserError(
            f"test=own: which samples are {', '.join(unknown)}? dataset.names does not say; give names that it has, or "
            "pictures of your own as test=FOLDER with a folder for each name"
        )
    classes = torch.tensor([task.class_names.index(str(meaning)) for meaning in meanings.values()])
    return restricted(split, Listed(classes, tuple(names), task.layout))
