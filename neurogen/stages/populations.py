"""Populations of networks: what generated ones are compared with, and by what.

in:  flat parameters [networks, params] of every population, and the zoo W
out: accuracy; overlap of mistakes with W, |A∩B| / |A∪B|; distance to W, min_i ‖w − w_i‖₂; norms; noise; ensembles

A generator may only reproduce its zoo, or average it. So the same figures stand beside it for networks that do just
that and are as accurate: a reference with noise, an average of references, a draw from their Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from neurogen.data.dataset import Split
from neurogen.errors import Interrupted
from neurogen.progress import Progress
from neurogen.rng import rng_of
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.targets.prediction import predict
from neurogen.training.runtime import Runtime

Networks = Float[Tensor, "_ params"]
ZOO = "zoo"
NOISES = (0.05, 0.1, 0.2, 0.4)  # in standard deviations of each tensor


@dataclass(frozen=True)
class Judge:
    """Runs target networks, given as flat parameters, over one split."""

    network: nn.Module
    layout: ParameterLayout
    split: Split
    runtime: Runtime

    def logits(self, flat: Float[Tensor, " params"]) -> Float[Tensor, "samples classes"]:
        """Raises Interrupted when the stop flag is set."""
        if self.runtime.stop.is_set():
            raise Interrupted
        return predict(self.network, self.layout.tensors(flat), self.split, self.runtime)

    def wrong(self, flat: Float[Tensor, " params"]) -> Bool[Tensor, " samples"]:
        """Which samples the network gets wrong."""
        return self.logits(flat).argmax(1) != self.split.labels

    def accuracies(self, networks: Networks) -> list[float]:
        return [accuracy_of(self.wrong(flat)) for flat in networks]

    def ensemble_accuracy(self, networks: Networks) -> float:
        """Of the mean of what the networks say, as probabilities."""
        said = torch.stack([self.logits(flat).softmax(1) for flat in networks]).mean(0)
        return accuracy_of(said.argmax(1) != self.split.labels)


def accuracy_of(wrong: Bool[Tensor, " samples"]) -> float:
    return 1 - float(wrong.double().mean())


def judged(populations: dict[str, Networks], zoo: Networks, judge: Judge) -> dict[str, dict[str, list[float]]]:
    """Of every network its accuracy, the largest overlap of its mistakes with a network of the zoo, and the distance to
    the nearest one. The population `zoo` is the zoo itself: each of its networks is compared with the others."""
    wrong_zoo = [judge.wrong(flat) for flat in zoo]
    found: dict[str, dict[str, list[float]]] = {}
    with Progress("judged", sum(map(len, populations.values())), unit="networks") as progress:
        for name, networks in populations.items():
            rows = found[name] = {"accuracy": [], "max_iou": [], "min_l2": []}
            for place, flat in enumerate(networks):
                wrong = judge.wrong(flat)
                rows["accuracy"].append(accuracy_of(wrong))
                others = [number for number in range(len(zoo)) if name != ZOO or number != place]
                if others:
                    rows["max_iou"].append(max(iou(wrong, wrong_zoo[number]) for number in others))
                    rows["min_l2"].append(min(float((flat - zoo[number]).norm()) for number in others))
                progress.advance()
    return found


def iou(one: Bool[Tensor, " samples"], other: Bool[Tensor, " samples"]) -> float:
    """|A∩B| / |A∪B| of two sets of wrong predictions; 1 where both are empty."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0


@dataclass(frozen=True)
class Imitation:
    """A way to make networks of a zoo without a language model, applied more and more strongly."""

    strengths: Sequence[float]
    make: Callable[[float], Networks]


def imitations(zoo: Networks, scale: Scale, count: int, seed: int) -> dict[str, Imitation]:
    """The three ways, each of `count` networks (one, where all would be equal)."""

    def noisy(deviations: float) -> Networks:
        """References and noise of so many standard deviations of each tensor."""
        return with_noise(zoo[torch.arange(count) % len(zoo)], scale, deviations, seed)

    def averaged(size: float) -> Networks:
        """Means of so many references."""
        random, several = rng_of(seed, "average"), count if size < len(zoo) else 1
        chosen = [torch.randperm(len(zoo), generator=random)[: int(size)] for _ in range(several)]
        return torch.stack([zoo[one].mean(0) for one in chosen])

    def drawn(deviations: float) -> Networks:
        """Every parameter drawn on its own from the zoo's mean and so many of its standard deviations."""
        noise = torch.randn(count, zoo.shape[1], generator=rng_of(seed, "gaussian"))
        return zoo.mean(0) + deviations * zoo.std(0, correction=0) * noise

    sizes = tuple(map(float, range(min(2, len(zoo)), len(zoo) + 1)))
    return {
        "noisy_zoo": Imitation((0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0), noisy),
        "averaged_zoo": Imitation(sizes, averaged),
        "drawn_zoo": Imitation((0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0), drawn),
    }


def as_accurate(way: Imitation, accuracy: float, validation: Judge) -> float:
    """The strength whose networks come nearest to the accuracy on validation; of several the greatest."""

    def distance(strength: float) -> float:
        return abs(mean(validation.accuracies(way.make(strength))) - accuracy)

    return min(reversed(way.strengths), key=distance)


def with_noise(networks: Networks, scale: Scale, strength: float, seed: int) -> Networks:
    """Gaussian noise of so many standard deviations of each tensor."""
    noise = torch.randn(networks.shape, generator=rng_of(seed, "noise"))
    return networks + strength * scale.layout.per_parameter(scale.std) * noise


def norms(populations: dict[str, Networks], layout: ParameterLayout) -> dict[str, dict[str, list[float]]]:
    """tensor → population → its norm in every network: a collapse is seen here before anywhere else."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in layout.names}
    for which, networks in populations.items():
        for name, part in zip(layout.names, networks.split(layout.sizes, 1), strict=True):
            found[name][which] = part.norm(dim=1).tolist()
    return found


def under_noise(populations: dict[str, Networks], scale: Scale, judge: Judge, seed: int) -> dict[str, dict[str, float]]:
    """strength → population → mean accuracy of its networks with that much noise."""
    return {
        str(strength): {
            which: mean(judge.accuracies(with_noise(networks, scale, strength, seed)))
            for which, networks in populations.items()
        }
        for strength in NOISES
    }


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)
