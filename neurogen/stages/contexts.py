"""The contexts of an evaluation: the training samples and the episode from which each network is generated."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Int64
from torch import Tensor

from neurogen.data.dataset import Dataset
from neurogen.data.splits import SplitName
from neurogen.generator.context import Context, context_index
from neurogen.rng import rng_of
from neurogen.stages.episode import Episode, draw_episode
from neurogen.study.pipeline import Evaluate
from neurogen.targets.parameters import ParameterLayout


@dataclass(frozen=True)
class EvaluationContext:
    """One generated network comes from this."""

    index: Int64[Tensor, " samples"]  # of training samples
    drawn: Int64[Tensor, " train"]  # of all training samples, in the order from which these were taken
    context: Context
    episode: Episode


def evaluation_contexts(step: Evaluate, dataset: Dataset, layout: ParameterLayout) -> list[EvaluationContext]:
    """Samples drawn from the training data for every network. Episodes are ones that training never draws, where there
    are such."""
    contexts = []
    for network in range(step.evaluate.num_contexts):
        rng = rng_of(step.seed, "evaluate", network)
        drawn = dataset.train.sample(len(dataset.train), rng)
        index = context_index(dataset.train, drawn, step.tune.generator)
        episode = draw_episode(step.task.dataset, dataset.class_names, layout, rng, rng, SplitName.TEST)
        context = Context.of(dataset.train, episode.class_names, index)
        contexts.append(EvaluationContext(index, drawn, context, episode))
    return contexts
