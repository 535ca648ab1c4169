"""What an evaluation shows the generator; and where only that reveals the labels, what else could be made of it.

in:  the dataset, the zoo
out: the contexts of all generated networks, with the order of the labels where that is drawn (relabel.py); networks
     trained on the samples of a context alone, and networks that know everything but the order
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from neurogen.data.dataset import Dataset
from neurogen.parameters import ParameterLayout
from neurogen.pipeline import Evaluate
from neurogen.progress import Progress
from neurogen.relabel import Relabelling
from neurogen.runtime import Runtime, generator_of, seed_of
from neurogen.task import Context, read_of
from neurogen.zoo import initialised, side_by_side, train_network

EPOCHS = 200  # for so few samples; the one that is best on validation is kept


@dataclass(frozen=True)
class Shown:
    """What one network is generated from."""

    index: Int64[Tensor, " samples"]  # of training samples
    context: Context
    relabelling: Relabelling | None  # None: the labels are what they are


def shown_by(step: Evaluate, dataset: Dataset) -> list[Shown]:
    """Training samples, drawn for every network; orders of the labels that training never drew, where
    there are enough."""
    found = []
    for number in range(step.evaluate.num_contexts):
        random, names, relabelling = generator_of(step.seed, "evaluate", number), dataset.class_names, None
        index = read_of(dataset.train, dataset.train.sample(len(dataset.train), random), step.tune.generator)
        if step.task.dataset.relabel is not None:
            relabelling = Relabelling.drawn(len(names), random, held_out=True)
            names = relabelling.names(names)
        found.append(Shown(index, Context.of(dataset.train, names, index), relabelling))
    return found


def networks_beside(
    step: Evaluate, dataset: Dataset, shown: Sequence[Shown], zoo: Float[Tensor, "networks params"], runtime: Runtime
) -> dict[str, Float[Tensor, "_ params"]]:
    """Where only the context reveals the labels: what a context alone gives, and what all but the context gives."""
    if any(one.relabelling is None for one in shown):
        return {}
    seeds = [seed_of(step.seed, "context alone", number) for number in range(len(shown))]
    networks = [initialised(step.task.target, dataset, seed) for seed in seeds]
    layout = ParameterLayout.of(networks[0])
    training = replace(step.classical.classical.training, epochs=EPOCHS, schedule="cosine")
    with Progress("trained on contexts", EPOCHS * len(shown), unit="epochs") as progress:

        def train_one(number: int) -> Float[Tensor, " params"]:
            few = replace(dataset, train=dataset.train.part(shown[number].index))
            train_network(networks[number], few, training, seeds[number], runtime, progress)
            named = networks[number].named_parameters()
            return layout.flatten({name: value.detach().cpu() for name, value in named})

        alone = side_by_side(train_one, list(range(len(shown))), runtime)
    blind = [
        one.relabelling.undone(zoo[number % len(zoo)], layout)
        for number, one in enumerate(shown)
        if one.relabelling is not None
    ]
    return {"context_alone": torch.stack(alone), "blind_to_order": torch.stack(blind)}
