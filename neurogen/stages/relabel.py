"""Labels that only the context reveals: every context names the classes in another order (dataset.relabel=random).

in:  an order of the classes: class c of the data has the label order[c] in this context
out: names and labels in that order; the network for them, which is exact: the same rows of the output layer in another
     order

A fifth of all orders is held out (held_out.py): training never draws them, and evaluation draws no others. With three
classes or fewer there are too few orders, and none is held out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from neurogen.stages.held_out import MIN_CLASSES, is_held_out
from neurogen.targets.parameters import ParameterLayout


@dataclass(frozen=True)
class Relabelled:
    """An episode (episode.py) whose classes have their labels in another order."""

    names: tuple[str, ...]  # of the classes, as in the data
    layout: ParameterLayout
    order: Int64[Tensor, " classes"]

    @staticmethod
    def draw(names: tuple[str, ...], layout: ParameterLayout, rng: torch.Generator, held_out: bool) -> Relabelled:
        """One of the held-out orders, or one of the others."""
        while True:
            order = torch.randperm(len(names), generator=rng)
            if len(names) < MIN_CLASSES or is_held_out(order.tolist()) == held_out:
                return Relabelled(names, layout, order)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names in the new order."""
        return tuple(self.names[label] for label in self.order.tolist())

    @property
    def listed_names(self) -> None:
        """The prompt lists no names: they stand beside the samples."""
        return None

    def includes(self, classes: Int64[Tensor, " samples"]) -> Bool[Tensor, " samples"]:
        """All of them."""
        return torch.ones_like(classes, dtype=torch.bool)

    def labels(self, classes: Int64[Tensor, " samples"]) -> Int64[Tensor, " samples"]:
        """order[class] of every sample."""
        return self.order.to(classes.device)[classes]

    def parameters(self, flat: Float[Tensor, "*n params"]) -> Float[Tensor, "*n params"]:
        """Row order[c] of the output layer becomes what row c is.

        Raises UserError for a target whose last layer has no row per class.
        """
        return self._with_rows(flat, self.order.argsort())

    def restored(self, flat: Float[Tensor, "*n params"]) -> Float[Tensor, "*n params"]:
        """The inverse of `parameters`."""
        return self._with_rows(flat, self.order)

    def _with_rows(self, flat: Float[Tensor, "*n params"], rows: Int64[Tensor, " classes"]) -> Tensor:
        self.layout.require_rows(len(rows), "dataset.relabel=random")
        return self.layout.choose_rows(flat, rows.tolist())
