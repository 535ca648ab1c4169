"""The losses of both stages: L1 compares with the zoo in parameter space, L2 asks the generated network itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call

from neurogen.generator.latent import Code, Components
from neurogen.targets.normalisation import gradients_reach_statistics


@dataclass(frozen=True)
class ZooMoments:
    """Mean and variance of every parameter over the zoo, as z-scores. Stage 1 needs no more of it.

    Where networks have codes, the variance is what the codes leave of it.
    """

    mean: Float[Tensor, " params"]
    variance: Float[Tensor, " params"]
    parts: tuple[int, ...] | None = None  # sizes of the parts that weigh alike; None: every parameter weighs alike
    components: Components | None = None  # with generator.latent

    @staticmethod
    def of(zoo: Float[Tensor, "networks params"], latent: int | None = None) -> ZooMoments:
        """The moments of a zoo of z-scores, whose networks have codes of length `latent`."""
        variance = zoo.var(0, correction=0)
        if latent is None:
            return ZooMoments(zoo.mean(0), variance)
        components = Components.of(zoo, latent)
        left = (variance - components.vectors.square().sum(0)).clamp(min=0)
        return ZooMoments(zoo.mean(0), left, components=components)

    def at(self, code: Code | None) -> ZooMoments:
        """Around the network with this code."""
        if code is None or self.components is None:
            return self
        return replace(self, mean=self.mean + self.components.offset(code))


def injection_loss(z: Float[Tensor, " params"], zoo: ZooMoments) -> Float[Tensor, ""]:
    """L1 (eq. 1): (1/N) Σ_i MSE(w_i, w_g) over the whole zoo = MSE(mean, w_g) + mean variance, in O(|w|).

    Where the moments have parts, it is the mean of theirs."""
    errors = (z - zoo.mean).square() + zoo.variance
    if zoo.parts is None:
        return errors.mean()
    return torch.stack([part.mean() for part in errors.split(zoo.parts)]).mean()


def tuning_loss(
    network: nn.Module,
    tensors: dict[str, Tensor],
    inputs: Float[Tensor, "batch ..."],
    labels: Int64[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """L2 (eq. 2): cross-entropy of the target f(x | w_g), differentiable with respect to w_g."""
    with gradients_reach_statistics(tensors):
        logits = functional_call(network, tensors, (inputs,))
    return nn.functional.cross_entropy(logits, labels)
