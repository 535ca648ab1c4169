"""Populations of networks: how they are measured, and the baselines that are made of a zoo without a language model.

in:  flat parameters [networks, params] of every population, and the zoo W
out: accuracy; overlap of mistakes with W, |A∩B| / |A∪B|; distance to W, min_i ‖w − w_i‖₂; spread, the mean of
     ‖w_i − w_j‖₂; norms; noise; ensembles

A generator may merely reproduce its zoo, or average it. Baselines that do just that, and are matched in accuracy, show
which overlap and which distance are then to be expected: a reference with noise, an average of references, a draw from
their Gaussian.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from neurogen.data.dataset import Split
from neurogen.errors import Interrupted
from neurogen.progress import Progress
from neurogen.rng import rng_of
from neurogen.study.results import EnsembleResult, NoiseResult, NormResult, Population, PopulationResult
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.targets.prediction import Batches, predict
from neurogen.training.runtime import Runtime

Networks = Float[Tensor, "_ params"]
NOISES = (0.05, 0.1, 0.2, 0.4)  # in standard deviations of each tensor


@dataclass(frozen=True)
class Evaluator:
    """Runs target networks, given as flat parameters, over one split, which it prepares once."""

    network: nn.Module
    layout: ParameterLayout
    split: Split
    runtime: Runtime

    @cached_property
    def batches(self) -> Batches:
        """The split as the networks read it."""
        return Batches(self.split, self.runtime.device)

    def logits(self, flat: Float[Tensor, " params"]) -> Float[Tensor, "samples classes"]:
        """Predictions of the network, on its device. Raises Interrupted when the stop flag is set."""
        if self.runtime.stop.is_set():
            raise Interrupted
        return predict(self.network, self.layout.tensors(flat.to(self.runtime.device)), self.batches)

    def mistakes(self, flat: Float[Tensor, " params"]) -> Bool[Tensor, " samples"]:
        """True where the network is wrong."""
        return self.logits(flat).argmax(1) != self.batches.labels

    def accuracies(self, networks: Networks) -> list[float]:
        """One per network, as fractions."""
        return accuracies_of(torch.stack([self.mistakes(flat) for flat in networks]))

    def ensemble(self, networks: Networks) -> EnsembleResult:
        """Accuracy of the mean of the networks' probabilities."""
        probabilities = torch.stack([self.logits(flat).softmax(1) for flat in networks]).mean(0)
        (accuracy,) = accuracies_of((probabilities.argmax(1) != self.batches.labels).unsqueeze(0))
        return EnsembleResult(accuracy, len(networks))


def accuracies_of(mistakes: Bool[Tensor, "networks samples"]) -> list[float]:
    """By network, the fraction of samples without a mistake."""
    return [1 - share for share in mistakes.double().mean(1).tolist()]


def measure(populations: Mapping[str, Networks], zoo: Networks, evaluator: Evaluator) -> dict[str, PopulationResult]:
    """Accuracy of every network, the largest overlap of its mistakes with a zoo network, its distance to the nearest.

    The population ZOO is the zoo itself: each of its networks is compared with the others.
    """
    zoo_mistakes = torch.stack([evaluator.mistakes(flat) for flat in zoo])
    results = {}
    with Progress("evaluated", sum(map(len, populations.values())), unit="networks") as progress:
        for name, networks in populations.items():
            result = results[name] = PopulationResult(accuracy=[], max_iou=[], min_l2=[], spread=spread_of(networks))
            for index, flat in enumerate(networks):
                mistakes = zoo_mistakes[index] if name == Population.ZOO else evaluator.mistakes(flat)
                result.accuracy.extend(accuracies_of(mistakes.unsqueeze(0)))
                others = [other for other in range(len(zoo)) if name != Population.ZOO or other != index]
                if others:
                    result.max_iou.append(max(ious(mistakes, zoo_mistakes[others]), default=None))
                    result.min_l2.append(min(float((flat - zoo[other]).norm()) for other in others))
                progress.advance()
    return results


def spread_of(networks: Networks) -> float | None:
    """The mean distance between two of the networks; None where there is only one."""
    return mean(torch.pdist(networks).tolist()) if len(networks) > 1 else None


def ious(mistakes: Bool[Tensor, " samples"], others: Bool[Tensor, "networks samples"]) -> list[float]:
    """|A∩B| / |A∪B| of one set of wrong predictions with each of several, but for those with which it is 0 / 0."""
    sizes = torch.stack([(mistakes & others).sum(1), (mistakes | others).sum(1)], 1)
    return [shared / union for shared, union in sizes.tolist() if union]


@dataclass(frozen=True)
class Baseline:
    """A way to make networks of a zoo without a language model. The stronger it is applied, the less they resemble a
    single zoo network."""

    strengths: Sequence[float]
    make: Callable[[float], Networks]


def baselines_of(zoo: Networks, scale: Scale, count: int, seed: int) -> dict[str, Baseline]:
    """The three baselines that can be matched in accuracy, each of `count` networks, or of one where all are equal."""

    def noisy(strength: float) -> Networks:
        """References with noise of so many standard deviations of each tensor."""
        return with_noise(zoo[torch.arange(count) % len(zoo)], scale, strength, seed)

    def averaged(size: float) -> Networks:
        """Means of so many references."""
        rng, num_means = rng_of(seed, "average"), count if size < len(zoo) else 1
        members = [torch.randperm(len(zoo), generator=rng)[: int(size)] for _ in range(num_means)]
        return torch.stack([zoo[index].mean(0) for index in members])

    def drawn(strength: float) -> Networks:
        """Every parameter drawn by itself from the zoo's mean and so many of its standard deviations."""
        noise = torch.randn(count, zoo.shape[1], generator=rng_of(seed, "gaussian"))
        return zoo.mean(0) + strength * zoo.std(0, correction=0) * noise

    sizes = tuple(map(float, range(min(2, len(zoo)), len(zoo) + 1)))
    return {
        Population.MATCHED_NOISE: Baseline((0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0), noisy),
        Population.MATCHED_AVERAGE: Baseline(sizes, averaged),
        Population.MATCHED_GAUSSIAN: Baseline((0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0), drawn),
    }


def matching_strengths(baselines: Mapping[str, Baseline], accuracy: float, validation: Evaluator) -> dict[str, float]:
    """By baseline, the strength whose networks come nearest to this accuracy on validation."""
    most = {name: 2 + len(baseline.strengths).bit_length() for name, baseline in baselines.items()}
    matching = {}
    with Progress("matched", sum(most.values()), unit="strengths") as progress:
        for name, baseline in baselines.items():
            matching[name], num_tried = _matching_strength(baseline, accuracy, validation, progress)
            progress.advance(most[name] - num_tried)
    return matching


def _matching_strength(
    baseline: Baseline, accuracy: float, validation: Evaluator, progress: Progress
) -> tuple[float, int]:
    """(the strength, how many were tried). Accuracy rises or falls with the strength, so the search halves the rest."""
    strengths = baseline.strengths

    @cache
    def accuracy_at(index: int) -> float:
        achieved = mean(validation.accuracies(baseline.make(strengths[index])))
        progress.advance()
        return achieved

    def is_beyond(index: int) -> bool:
        return accuracy_at(index) >= accuracy if rises else accuracy_at(index) <= accuracy

    last = len(strengths) - 1
    rises = accuracy_at(last) > accuracy_at(0)
    crossing = bisect_left(range(last), True, key=is_beyond)
    nearest = min((crossing, max(0, crossing - 1)), key=lambda index: abs(accuracy_at(index) - accuracy))
    return strengths[nearest], accuracy_at.cache_info().currsize


def with_noise(networks: Networks, scale: Scale, strength: float, seed: int) -> Networks:
    """The networks with Gaussian noise of so many standard deviations of each tensor."""
    noise = torch.randn(networks.shape, generator=rng_of(seed, "noise"))
    return networks + strength * scale.layout.per_parameter(scale.std) * noise


def norms(zoo: Networks, generated: Networks, layout: ParameterLayout) -> dict[str, NormResult]:
    """By tensor, its L2 norm in every network. A collapse shows here before it shows anywhere else."""
    tensors = zip(layout.names, zoo.split(layout.sizes, 1), generated.split(layout.sizes, 1), strict=True)
    return {name: NormResult(*(part.norm(dim=1).tolist() for part in parts)) for name, *parts in tensors}


def under_noise(
    zoo: Networks, generated: Networks, scale: Scale, evaluator: Evaluator, seed: int
) -> dict[str, NoiseResult]:
    """By strength, the mean accuracy of the networks with that much noise."""

    def accuracy(networks: Networks, strength: float) -> float:
        achieved = mean(evaluator.accuracies(with_noise(networks, scale, strength, seed)))
        progress.advance()
        return achieved

    with Progress("under noise", 2 * len(NOISES), unit="strengths") as progress:
        return {str(noise): NoiseResult(accuracy(zoo, noise), accuracy(generated, noise)) for noise in NOISES}


def mean(values: Sequence[float]) -> float:
    """Exact to the last bit, in whatever order the values come."""
    return math.fsum(values) / len(values)
