"""Baselines where only the context reveals the labels (relabel.py).

in:  the contexts of an evaluation, the zoo, the dataset
out: for every context three networks without a language model: one trained on its samples alone; a zoo network with its
     rows in the data's order, which ignores the labels; and a zoo network whose rows are in the order that its own
     predictions on the context suggest
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from neurogen.config import NetworkSchedule
from neurogen.data.dataset import Dataset, Split
from neurogen.progress import Progress
from neurogen.rng import seed_of
from neurogen.stages.contexts import EvaluationContext
from neurogen.stages.relabel import Relabelled
from neurogen.study.pipeline import Evaluate
from neurogen.study.results import Population
from neurogen.targets.fitting import initialised, side_by_side, train_networks
from neurogen.targets.parameters import ParameterLayout
from neurogen.targets.prediction import Batches, predict
from neurogen.targets.values import values_of
from neurogen.training.runtime import Runtime

EPOCHS = 200  # enough for so few samples; the epoch that is best on validation is kept


def relabel_baselines(
    step: Evaluate,
    dataset: Dataset,
    contexts: Sequence[EvaluationContext],
    zoo: Float[Tensor, "networks params"],
    runtime: Runtime,
) -> dict[str, Float[Tensor, "contexts params"]]:
    """The populations by name, as networks for the classes of the data; none unless dataset.relabel=random."""
    episodes = [context.episode for context in contexts if isinstance(context.episode, Relabelled)]
    if not episodes:
        return {}
    samples = [dataset.train.subset(context.index).to(runtime.device) for context in contexts]
    network = initialised(step.task.target, dataset, 0).to(runtime.device)
    layout = ParameterLayout.of(network)
    ignoring, inferred = [], []
    for index, episode in enumerate(episodes):
        flat = zoo[index % len(zoo)]
        logits = predict(network, layout.tensors(flat), Batches(samples[index], runtime.device))
        order = matching_order(logits.softmax(1).cpu(), episode.labels(samples[index].labels).cpu())
        guess = replace(episode, order=order)
        ignoring.append(episode.restored(flat))
        inferred.append(episode.restored(guess.parameters(flat)))
    alone = _trained_on(samples, step, dataset, runtime)
    return {
        Population.CONTEXT_ALONE: alone,
        Population.LABELS_IGNORED: torch.stack(ignoring),
        Population.LABELS_INFERRED: torch.stack(inferred),
    }


def matching_order(
    probabilities: Float[Tensor, "samples classes"], labels: Int64[Tensor, " samples"]
) -> Int64[Tensor, " classes"]:
    """The order of the labels that agrees best with a network's predictions: an assignment of labels to classes."""
    num_classes = probabilities.shape[1]
    votes = torch.zeros(num_classes, num_classes).index_add(1, labels, probabilities.T)  # [class, label]
    _, order = linear_sum_assignment(votes.numpy(), maximize=True)
    return torch.from_numpy(order).long()


def _trained_on(
    samples: Sequence[Split], step: Evaluate, dataset: Dataset, runtime: Runtime
) -> Float[Tensor, "contexts params"]:
    """One network per context, trained by gradient descent on its samples alone."""
    seeds = [seed_of(step.seed, "context alone", index) for index in range(len(samples))]
    networks = [initialised(step.task.target, dataset, seed) for seed in seeds]
    layout = ParameterLayout.of(networks[0])
    validation = Batches(dataset.validation, runtime.device)
    training = replace(step.classical.classical.training, epochs=EPOCHS, schedule=NetworkSchedule.cosine)
    with Progress("trained on contexts", EPOCHS * len(samples), unit="epochs") as progress:

        def train(group: list[int]) -> list[Float[Tensor, " params"]]:
            return [trained(index) for index in group]

        def trained(index: int) -> Float[Tensor, " params"]:
            network, seed = networks[index], seeds[index]
            train_networks([network], samples[index], validation, training, [seed], runtime, progress)
            return layout.flatten(values_of(network)).detach().cpu()

        return torch.stack(side_by_side(train, range(len(samples)), runtime))
