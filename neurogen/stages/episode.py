"""An episode: a task as it is drawn for one context. The stages know no more of it than this interface.

in:  the config of the data, its classes, the target's layout, a random number generator
out: the classes' names in this context, labels, the zoo's parameters for these labels

Most tasks are the same in every context (`SameTask`). With dataset.relabel=random every context names the classes in
another order (relabel.py); with dataset.ways every context lists some of the classes by their names (listed.py).
Another way of drawing a task per context is another class of this form, and a line in `draw_episode`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from neurogen.config import DatasetConfig
from neurogen.data.dataset import Split
from neurogen.data.splits import SplitName
from neurogen.stages.listed import Listed
from neurogen.stages.relabel import Relabelled
from neurogen.targets.parameters import ParameterLayout


@runtime_checkable
class Episode(Protocol):
    """Between the classes of the data and the labels of one context."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name that each class of the data has in this context; of listed classes, in the order of the list."""
        ...

    @property
    def listed_names(self) -> tuple[str, ...] | None:
        """The names that the prompt lists; None where it lists none."""
        ...

    def includes(self, classes: Int64[Tensor, " samples"]) -> Bool[Tensor, " samples"]:
        """Whether samples of these classes belong to this context."""
        ...

    def labels(self, classes: Int64[Tensor, " samples"]) -> Int64[Tensor, " samples"]:
        """The labels of such samples, which the network of this context must predict."""
        ...

    def parameters(self, flat: Float[Tensor, "*n params"]) -> Float[Tensor, "*n _"]:
        """From a network for the classes of the data to the network for this context."""
        ...


@dataclass(frozen=True)
class SameTask:
    """Every class has its own name and label."""

    class_names: tuple[str, ...]

    listed_names = None

    def includes(self, classes: Int64[Tensor, " samples"]) -> Bool[Tensor, " samples"]:
        """All of them."""
        return torch.ones_like(classes, dtype=torch.bool)

    def labels(self, classes: Int64[Tensor, " samples"]) -> Int64[Tensor, " samples"]:
        """The classes themselves."""
        return classes

    def parameters(self, flat: Float[Tensor, "*n params"]) -> Float[Tensor, "*n params"]:
        """The same network."""
        return flat


def draw_episode(
    config: DatasetConfig,
    class_names: tuple[str, ...],
    layout: ParameterLayout,
    rng: torch.Generator,
    step_rng: torch.Generator,
    split: SplitName,
) -> Episode:
    """The task of one context, for this split: validation and test have ones that training never draws, where there are
    such. `step_rng` is the same for all contexts of a step: their networks have the same number of classes."""
    if config.ways is not None:
        fewest, most = config.ways
        ways = int(torch.randint(fewest, most + 1, (), generator=step_rng))
        return Listed.draw(class_names, config.names, min(ways, len(class_names)), layout, rng, split)
    if config.relabel is not None:
        return Relabelled.draw(class_names, layout, rng, split != SplitName.TRAIN)
    return SameTask(class_names)


def restricted(split: Split, episode: Episode) -> Split:
    """The samples that belong to the context, with their labels in it."""
    index = episode.includes(split.labels).nonzero()[:, 0]
    kept = split if len(index) == len(split) else split.subset(index)
    return replace(kept, labels=episode.labels(kept.labels))
