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
from jaxtyping import Float, Float64
from torch import Tensor, nn

from neurogen.targets.parameters import ParameterLayout
from neurogen.training.groups import PerTask

Code = tuple[float, ...]
FACTOR = 3.0  # of S
SLICE = 2**20  # parameters that are read at once


@dataclass(frozen=True)
class Components:
    """The principal components of a zoo, each as long as its standard deviation, and the codes of its networks."""

    vectors: Float[Tensor, "latent params"]
    codes: tuple[Code, ...]

    @staticmethod
    def of(zoo: Float[Tensor, "networks params"], latent: int) -> Components:
        """`latent` is less than the number of networks.

        Computed on the CPU from inner products in double precision, so that both stages find the same codes.
        """
        centred = (zoo - zoo.mean(0)).cpu()
        products = torch.zeros(len(zoo), len(zoo), dtype=torch.float64)
        for part in centred.split(SLICE, 1):
            products += part.double() @ part.double().T
        _, directions = torch.linalg.eigh(products)  # variances ascend
        codes = directions[:, -latent:].flip(1) * len(zoo) ** 0.5
        codes = codes * _signs(codes)
        vectors = codes.T.to(centred) @ centred / len(zoo)
        return Components(vectors.to(zoo.device), tuple(tuple(code) for code in codes.tolist()))

    def offset(self, code: Code) -> Float[Tensor, " params"]:
        """What a code adds to the mean of the zoo."""
        return torch.tensor(code).to(self.vectors) @ self.vectors


def _signs(codes: Float64[Tensor, "networks latent"]) -> Float64[Tensor, " latent"]:
    """Eigenvectors have no sign: the first large entry of each becomes positive. Two may be the largest."""
    is_large = codes.abs() > codes.abs().amax(0) / 2
    return codes.gather(0, is_large.int().argmax(0, keepdim=True))[0].sign()


def draw_code(latent: int | None, rng: torch.Generator) -> Code | None:
    """A new code; None, and nothing is drawn, where generators have none."""
    return None if latent is None else tuple(torch.randn(latent, generator=rng).tolist())


class LatentTable(nn.Module):
    """What a code adds to the tokens of one layout: S ∈ R^{d1×k×d}."""

    def __init__(self, num_tokens: int, latent: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_tokens, latent, width))

    def forward(self, codes: Float[Tensor, "codes latent"]) -> Float[Tensor, "codes tokens hidden"]:
        """3 Σ_k c_k S_k for every code."""
        return FACTOR * torch.einsum("nk,tkd->ntd", codes.to(self.weight), self.weight)


class LatentTokens(nn.Module):
    """A table for every layout."""

    def __init__(self, layouts: Mapping[str, ParameterLayout], width: int, latent: int) -> None:
        super().__init__()
        self.latent = latent
        self.tables = PerTask.of(layouts, lambda layout: LatentTable(len(layout.chunks(width)), latent, width))

    def forward(self, task: str, codes: Sequence[Code | None]) -> Float[Tensor, "codes tokens hidden"]:
        """What to add to the tokens of the task's layout. No code is the middle of all codes, and adds zero."""
        rows = [(0.0,) * self.latent if code is None else code for code in codes]
        added: Tensor = self.tables[task](torch.tensor(rows))
        return added
