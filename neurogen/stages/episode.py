"""An episode: a task as it is drawn for one context. The stages know no more of it than this interface.

in:  the config of the data, its classes, the target's layout, a random number generator
out: the classes' names in this context, labels, the zoo's parameters for these labels, and the way back

Most tasks are the same in every context (`SameTask`). With dataset.relabel=random every context names the classes in
another order (relabel.py). Another way of drawing a task per context is another class of this form, and a line in
`draw_episode`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from neurogen.config import DatasetConfig
from neurogen.stages.relabel import Relabelled
from neurogen.targets.parameters import ParameterLayout


@runtime_checkable
class Episode(Protocol):
    """Between the classes of the data and the labels of one context."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name that each class of the data has in this context."""
        ...

    def labels(self, classes: Int64[Tensor, " samples"]) -> Int64[Tensor, " samples"]:
        """The labels of samples of these classes, which the network of this context must predict."""
        ...

    def parameters(self, flat: Float[Tensor, "*n params"]) -> Float[Tensor, "*n params"]:
        """From a network for the classes of the data to the network for this context."""
        ...

    def restored(self, flat: Float[Tensor, "*n params"]) -> Float[Tensor, "*n params"]:
        """From a network for this context to the network for the classes of the data."""
        ...


@dataclass(frozen=True)
class SameTask:
    """Every class has its own name and label."""

    class_names: tuple[str, ...]

    def labels(self, classes: Int64[Tensor, " samples"]) -> Int64[Tensor, " samples"]:
        """The classes themselves."""
        return classes

    def parameters(self, flat: Float[Tensor, "*n params"]) -> Float[Tensor, "*n params"]:
        """The same network."""
        return flat

    def restored(self, flat: Float[Tensor, "*n params"]) -> Float[Tensor, "*n params"]:
        """The same network."""
        return flat


def draw_episode(
    config: DatasetConfig,
    class_names: tuple[str, ...],
    layout: ParameterLayout,
    rng: torch.Generator,
    held_out: bool,
) -> Episode:
    """The task of one context. With `held_out`, one that training never draws, where there are such."""
    if config.relabel is None:
        return SameTask(class_names)
    return Relabelled.draw(class_names, layout, rng, held_out)
