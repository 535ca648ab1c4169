"""Codes: what tells the networks of one generator apart (generator.latent).

in:  a zoo of z-scores, the length of a code
out: a code for every reference network, and new ones; the parameter tokens for a code

Without codes, the networks of one task hardly differ, since stage 1 matches all of them with the mean of the zoo. With
codes it matches each reference network by itself:

    w_i ≈ w̄ + Σ_k c_ik v_k          v_k: a principal component of the zoo, as long as its standard deviation
    P(c) = P + 3 Σ_k c_k S_k         S: learned, zero at first

S learns at the plain rate, three times as fast by its factor. At the rate of P, which is twenty times the plain one, it
moves all networks at once, and with them their mean (docs/log.md).

Codes of the reference networks have mean 0 and variance 1 in every place. So codes of new networks are drawn from
N(0, I). A zoo of N networks has N − 1 components; with all of them the codes tell its networks apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurogen.targets.parameters import ParameterLayout
from neurogen.training.groups import PerTask

Code = tuple[float, ...]
FACTOR = 3.0  # of S


@dataclass(frozen=True)
class Components:
    """The principal components of a zoo, each as long as its standard deviation, and the codes of its networks."""

    vectors: Float[Tensor, "latent params"]
    codes: tuple[Code, ...]

    @staticmethod
    def of(zoo: Float[Tensor, "networks params"], latent: int) -> Components:
        """`latent` is less than the number of networks. Their inner products suffice, so this costs little more than
        to read them."""
        centred = zoo.double() - zoo.double().mean(0)
        _, directions = torch.linalg.eigh(centred @ centred.T)  # variances ascend
        kept = slice(len(zoo) - latent, None)
        codes = directions[:, kept].flip(1) * len(zoo) ** 0.5
        codes = codes * codes.gather(0, codes.abs().argmax(0, keepdim=True)).sign()  # eigenvectors have no sign
        vectors = codes.T @ centred / len(zoo)
        return Components(vectors.to(zoo), tuple(tuple(code) for code in codes.tolist()))

    def offset(self, code: Code) -> Float[Tensor, " params"]:
        """What a code adds to the mean of the zoo."""
        return torch.tensor(code).to(self.vectors) @ self.vectors


def draw_code(latent: int | None, rng: torch.Generator) -> Code | None:
    """A new code; None, and nothing is drawn, where generators have none."""
    return None if latent is None else tuple(torch.randn(latent, generator=rng).tolist())


class LatentTable(nn.Module):
    """What a code adds to the tokens of one layout: S ∈ R^{d1×k×d}."""

    def __init__(self, num_tokens: int, latent: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_tokens, latent, width))


class LatentTokens(nn.Module):
    """A table for every layout."""

    def __init__(self, layouts: Mapping[str, ParameterLayout], width: int, latent: int) -> None:
        super().__init__()
        self.tables = PerTask.of(layouts, lambda layout: LatentTable(len(layout.chunks(width)), latent, width))

    def forward(self, task: str, codes: Sequence[Code | None]) -> Float[Tensor, "codes tokens hidden"]:
        """What to add to the tokens of the task's layout. No code is the middle of all codes, and adds zero."""
        weight = self.tables[task].get_parameter("weight")
        rows = [[0.0] * weight.shape[1] if code is None else list(code) for code in codes]
        return FACTOR * torch.einsum("nk,tkd->ntd", torch.tensor(rows).to(weight), weight)
