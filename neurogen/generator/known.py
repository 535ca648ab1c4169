"""The rows that a generator has learned to give for known classes, and for which of them it takes a name.

in:  rows of the output layer of generated networks, as z-scores
out: for every row the probability of each known class

A generated row is taken as the row of some class with Gaussian noise, of one variance for all values. The variance is
fitted on names that training does not read.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from neurogen.targets.parameters import ParameterLayout

VARIANCES = torch.logspace(-3, 4, 141)  # among which the fit chooses


@dataclass(frozen=True)
class KnownRows:
    """The rows of the zoo's mean network, and the variance of generated rows around them."""

    rows: Float[Tensor, "classes row"]
    variance: Float[Tensor, ""]

    def distances(self, rows: Float[Tensor, "listed row"]) -> Float[Tensor, "listed classes"]:
        """Squared distances of generated rows from all known ones."""
        return (rows.cpu()[:, None] - self.rows).square().sum(2)

    def probabilities(self, rows: Float[Tensor, "listed row"]) -> Float[Tensor, "listed classes"]:
        """How likely each class is to be meant."""
        return probabilities_of(self.distances(rows), self.variance)


def probabilities_of(
    distances: Float[Tensor, "listed classes"], variance: Float[Tensor, "*n"]
) -> Float[Tensor, "*n listed classes"]:
    """Of each class, from squared distances; for every variance."""
    return (-distances / (2 * variance[..., None, None])).softmax(-1)


def fitted_variance(distances: Float[Tensor, "listed classes"], classes: Int64[Tensor, " listed"]) -> Float[Tensor, ""]:
    """The variance under which the classes that are meant are most likely."""
    likely = probabilities_of(distances, VARIANCES)[:, torch.arange(len(classes)), classes]
    return VARIANCES[likely.clamp(min=1e-12).log().mean(1).argmax()]


def rows_in(flat: Float[Tensor, " params"], layout: ParameterLayout) -> Float[Tensor, "classes row"]:
    """The rows of the output layer, all values of a class in one."""
    parts = flat.split(layout.sizes)
    return torch.cat([parts[tensor].reshape(layout.num_rows, -1) for tensor in layout.output], 1)
