"""Labels that only the context reveals: the classes in another order for every context (dataset.relabel=random).

in:  an order of the classes: class c of the data bears the label order[c] in this context
out: names and labels in that order; a network for them, exactly, since it is the same rows of the output layer in
     another order

A fifth of all orders is held out: training never draws them, evaluation draws no others. Three classes or fewer have
too few orders for that.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from neurogen.targets.parameters import ParameterLayout

LEAST_CLASSES_TO_HOLD_OUT = 4


@dataclass(frozen=True)
class Relabelling:
    order: Int64[Tensor, " classes"]

    @staticmethod
    def drawn(num_classes: int, random: torch.Generator, held_out: bool) -> Relabelling:
        """One of the orders that are held out, or of the others."""
        while True:
            order = torch.randperm(num_classes, generator=random)
            if num_classes < LEAST_CLASSES_TO_HOLD_OUT or is_held_out(order) == held_out:
                return Relabelling(order)

    def names(self, class_names: tuple[str, ...]) -> tuple[str, ...]:
        """What the classes are called."""
        return tuple(class_names[label] for label in self.order.tolist())

    def labels(self, classes: Int64[Tensor, " samples"]) -> Int64[Tensor, " samples"]:
        return self.order[classes]

    def parameters(self, flat: Float[Tensor, "*n params"], layout: ParameterLayout) -> Float[Tensor, "*n params"]:
        """Of a network for the classes, that for these labels."""
        return flat[..., rows_moved(layout, self.order.argsort()).to(flat.device)]

    def undone(self, flat: Float[Tensor, "*n params"], layout: ParameterLayout) -> Float[Tensor, "*n params"]:
        """Of a network for these labels, that for the classes."""
        return flat[..., rows_moved(layout, self.order).to(flat.device)]


def is_held_out(order: Int64[Tensor, " classes"]) -> bool:
    return hashlib.sha256(repr(order.tolist()).encode()).digest()[0] % 5 == 0


def rows_moved(layout: ParameterLayout, order: Int64[Tensor, " classes"]) -> Int64[Tensor, " params"]:
    """Where each parameter comes from when row r of the output layer is what row order[r] was.

    Raises UserError for a target whose last layer has no row per class.
    """
    layout.require_rows(len(order), "dataset.relabel=random")
    source = torch.arange(layout.num_parameters)
    for tensor in layout.output:
        first, size = layout.firsts[tensor], layout.sizes[tensor]
        rows = source[first : first + size].reshape(len(order), -1)
        source[first : first + size] = rows[order].reshape(-1)
    return source
