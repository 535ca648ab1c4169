"""Lists of named classes: every context lists some classes of the data, each by one of its names (dataset.ways).

in:  the classes of the data with their names; the target's layout; a random number generator
out: names and labels in the order of a list; the network for them, which is exact: the same rows of the output layer

A fifth of all sets of classes is held out (held_out.py): training never draws them, and evaluation draws no others.
Names are held out independently of that: training reads each class's names for training, validation and evaluation
the others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from neurogen.config import NamesConfig
from neurogen.data.splits import SplitName
from neurogen.errors import UserError
from neurogen.stages.held_out import MIN_CLASSES, is_held_out
from neurogen.targets.parameters import ParameterLayout

Names = Mapping[str, NamesConfig]  # by class
MOST_SETS = 100  # of classes, among which a hash may hold out none
MEANINGLESS = {  # words that no class is called; those of one split say nothing of those of the other
    SplitName.VALIDATION: (
        *("brimdle", "vocksy", "tarmish", "plunter", "oddrick", "swimble", "crelth", "nafter"),
        *("gloomick", "zeffer", "yabbic", "hentrill", "mupple", "dorvane", "quist", "farbel"),
    ),
    SplitName.TEST: (
        *("blorp", "snidge", "quaffle", "wubbit", "dremming", "flazzet", "grendix", "tormale", "vashil", "ploon"),
    ),
}


@dataclass(frozen=True)
class Listed:
    """An episode (episode.py) whose labels are the places in a list of classes."""

    classes: Int64[Tensor, " ways"]  # of the data, in the order of the list
    class_names: tuple[str, ...]  # as the list has them
    layout: ParameterLayout  # of the network for all classes of the data

    @staticmethod
    def draw(
        class_names: Sequence[str],
        names: Names,
        ways: int,
        layout: ParameterLayout,
        rng: torch.Generator,
        split: SplitName,
    ) -> Listed:
        """A list of so many classes. Its set of classes, and its names, are of this split.

        Raises UserError for a class without such names.
        """
        can_choose = len(class_names) >= MIN_CLASSES and ways < len(class_names)
        held_out = few_held_out(len(class_names), ways) if can_choose else None
        while True:
            classes = torch.randperm(len(class_names), generator=rng)[:ways]
            drawn_set = tuple(sorted(classes.tolist()))
            is_rare = is_held_out(drawn_set) if held_out is None else drawn_set in held_out
            if not can_choose or is_rare == (split != SplitName.TRAIN):
                break
        chosen = [names_of(class_names[index], names, split) for index in classes.tolist()]
        drawn = (options[int(torch.randint(len(options), (), generator=rng))] for options in chosen)
        return Listed(classes, tuple(drawn), layout)

    @property
    def listed_names(self) -> tuple[str, ...]:
        """The prompt lists them."""
        return self.class_names

    def includes(self, classes: Int64[Tensor, " samples"]) -> Bool[Tensor, " samples"]:
        """Whether the classes are in the list."""
        return torch.isin(classes, self.classes.to(classes.device))

    def labels(self, classes: Int64[Tensor, " samples"]) -> Int64[Tensor, " samples"]:
        """The place of every class in the list, of which it must be one."""
        places = torch.full((self.layout.num_rows,), -1, device=classes.device)
        places[self.classes.to(classes.device)] = torch.arange(len(self.classes), device=classes.device)
        return places[classes]

    def parameters(self, flat: Float[Tensor, "*n params"]) -> Float[Tensor, "*n listed_params"]:
        """Row i of the output layer becomes what the row of the list's i-th class is.

        Raises UserError for a target whose last layer has no row per class.
        """
        self.layout.require_rows(self.layout.num_rows, "dataset.ways")
        return self.layout.choose_rows(flat, self.classes.tolist())


@cache
def few_held_out(num_classes: int, ways: int) -> frozenset[tuple[int, ...]] | None:
    """The sets of classes that are held out where there are few of them: at least one; None where there are many, of
    which a hash holds out some for sure."""
    if math.comb(num_classes, ways) > MOST_SETS:
        return None
    sets = list(itertools.combinations(range(num_classes), ways))
    chosen = [classes for classes in sets if is_held_out(classes)]
    return frozenset(chosen or sets[:1])


def meaningless_words(count: int, split: SplitName, rng: torch.Generator) -> tuple[str, ...]:
    """So many words of this split; all of them come once before any comes again."""
    words = MEANINGLESS[split]
    order = torch.randperm(len(words), generator=rng).tolist()
    return tuple(words[order[place % len(words)]] for place in range(count))


def names_of(class_name: str, names: Names, split: SplitName) -> list[str]:
    """What a class is called in this split. Raises UserError where there is no name."""
    given = names.get(class_name)
    options: list[str] = getattr(given, split, [])
    if not options:
        raise UserError(
            f"dataset.names has no {split} names for the class {class_name!r}; give some of each kind (train, "
            "validation, test) for every class, as the files in conf/names do"
        )
    return options
