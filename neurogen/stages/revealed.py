"""What an evaluation shows the generator; and where only that reveals the labels, what else could be made of it.

in:  the dataset, the zoo
out: the contexts of all generated networks, with the order of the labels where that is drawn (relabel.py); networks
     trained on the samples of a context alone, networks that know everything but the order, and these with the order
     that a context tells them without a language model
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from neurogen.data.dataset import Dataset, Split
from neurogen.generator.task import Context, read_of
from neurogen.progress import Progress
from neurogen.rng import rng_of, seed_of
from neurogen.stages.relabel import Relabelling
from neurogen.study.pipeline import Evaluate
from neurogen.targets.fitting import initialised, side_by_side, train_network
from neurogen.targets.parameters import ParameterLayout
from neurogen.targets.prediction import predict
from neurogen.training.runtime import Runtime

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
        random, names, relabelling = rng_of(step.seed, "evaluate", number), dataset.class_names, None
        index = read_of(dataset.train, dataset.train.sample(len(dataset.train), random), step.tune.generator)
        if step.task.dataset.relabel is not None:
            relabelling = Relabelling.drawn(len(names), random, held_out=True)
            names = relabelling.names(names)
        found.append(Shown(index, Context.of(dataset.train, names, index), relabelling))
    return found


def networks_beside(
    step: Evaluate, dataset: Dataset, shown: Sequence[Shown], zoo: Float[Tensor, "networks params"], runtime: Runtime
) -> dict[str, Float[Tensor, "_ params"]]:
    """Where only the context reveals the labels: what a context alone gives, what all but the context gives, and what a
    zoo network gives whose rows are put into the order that its own view of the context suggests."""
    orders = [one.relabelling for one in shown if one.relabelling is not None]
    if not orders:
        return {}
    few = [dataset.train.subset(one.index) for one in shown]
    network = initialised(step.task.target, dataset, 0).to(runtime.device)
    layout = ParameterLayout.of(network)
    blind, matched = [], []
    for number, order in enumerate(orders):
        flat = zoo[number % len(zoo)]
        says = predict(network, layout.tensors(flat), few[number], runtime).softmax(1)
        guessed = best_order(says, order.labels(few[number].labels))
        blind.append(order.undone(flat, layout))
        matched.append(order.undone(guessed.parameters(flat, layout), layout))
    alone = _trained_on(few, step, dataset, runtime)
    return {"context_alone": alone, "blind_to_order": torch.stack(blind), "matched_zoo": torch.stack(matched)}


def best_order(says: Float[Tensor, "samples classes"], labels: Int64[Tensor, " samples"]) -> Relabelling:
    """The order of the labels under which most of these samples are what a network says that they are."""
    votes = torch.zeros(says.shape[1], says.shape[1]).index_add(1, labels, says.T)  # [class, label]
    _, order = linear_sum_assignment(votes.numpy(), maximize=True)
    return Relabelling(torch.from_numpy(order).long())


def _trained_on(
    few: Sequence[Split], step: Evaluate, dataset: Dataset, runtime: Runtime
) -> Float[Tensor, "contexts params"]:
    """A network for each of these few samples, by gradient descent on nothing else."""
    seeds = [seed_of(step.seed, "context alone", number) for number in range(len(few))]
    networks = [initialised(step.task.target, dataset, seed) for seed in seeds]
    layout = ParameterLayout.of(networks[0])
    training = replace(step.classical.classical.training, epochs=EPOCHS, schedule="cosine")
    with Progress("trained on contexts", EPOCHS * len(few), unit="epochs") as progress:

        def train_one(number: int) -> Float[Tensor, " params"]:
            own = replace(dataset, train=few[number])
            train_network(networks[number], own, training, seeds[number], runtime, progress)
            named = networks[number].named_parameters()
            return layout.flatten({name: value.detach().cpu() for name, value in named})

        return torch.stack(side_by_side(train_one, list(range(len(few))), runtime))
