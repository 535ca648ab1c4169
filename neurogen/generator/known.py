"""The rows that a generator has learned to give for known classes, and for which of them it takes a name.

in:  rows of the output layer of generated networks, as z-scores
out: for every row the probability of each known class; what is left is the probability of none of them

A generated row is taken as the row of some class with Gaussian noise, of one variance for all values. Where all known
rows are farther away than a limit, "none of them" is the likeliest. Variance and limit are fitted on names that
training does not read and on words that mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from neurogen.targets.parameters import ParameterLayout

GRID = torch.logspace(-3, 6, 181)  # among whose values the fit chooses variance and limit


@dataclass(frozen=True)
class KnownRows:
    """The rows of the zoo's mean network, and how far generated rows may lie from them."""

    rows: Float[Tensor, "classes row"]
    variance: Float[Tensor, ""]
    limit: Float[Tensor, ""]  # a squared distance

    @staticmethod
    def unfitted(rows: Float[Tensor, "classes row"]) -> KnownRows:
        """Before variance and limit are fitted. Every row is taken for one of the classes."""
        return KnownRows(rows, torch.tensor(1.0), torch.tensor(torch.inf))

    def distances(self, rows: Float[Tensor, "listed row"]) -> Float[Tensor, "listed classes"]:
        """Squared distances of generated rows from all known ones."""
        return (rows.cpu()[:, None] - self.rows).square().sum(2)

    def probabilities(self, rows: Float[Tensor, "listed row"]) -> Float[Tensor, "listed classes"]:
        """How likely each class is to be meant."""
        distances = self.distances(rows)
        none = self.limit.expand(len(distances), 1)
        return (-torch.cat([distances, none], 1) / (2 * self.variance)).softmax(1)[:, :-1]


def fitted(
    rows: Float[Tensor, "classes row"],
    named: Float[Tensor, "names row"],
    classes: Int64[Tensor, " names"],
    meaningless: Float[Tensor, "words row"],
) -> KnownRows:
    """Choose variance and limit by maximum likelihood. Names and words weigh the same.

    A name whose nearest row is that of its class means this class; all other names, and words that mean nothing, mean
    none.
    """
    known = KnownRows.unfitted(rows)
    of_names, of_words = known.distances(named), known.distances(meaningless)
    variances, limits = GRID[:, None, None], GRID[:, None]  # tensors are (variances, limits, names or words)
    none = -limits / (2 * variances)

    def log_all(distances: Float[Tensor, "words classes"]) -> Float[Tensor, "variances limits words"]:
        """What the probabilities of all classes and of none are divided by."""
        return torch.logaddexp((-distances / (2 * variances)).logsumexp(2)[:, None], none)

    nearest, is_right = of_names.min(1).values, of_names.argmin(1) == classes
    log_likely = torch.where(is_right, -nearest / (2 * variances), none) - log_all(of_names)
    likelihood = log_likely.mean(2) + (none - log_all(of_words)).mean(2)
    variance, limit = divmod(int(likelihood.argmax()), len(GRID))
    return KnownRows(rows, GRID[variance], GRID[limit])


def rows_in(flat: Float[Tensor, " params"], layout: ParameterLayout) -> Float[Tensor, "classes row"]:
    """The rows of the output layer, all values of a class in one."""
    parts = flat.split(layout.sizes)
    return torch.cat([parts[tensor].reshape(layout.num_rows, -1) for tensor in layout.output], 1)
