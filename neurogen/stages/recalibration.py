"""Populations whose running statistics are computed anew, from samples of each context (evaluate.recalibrate).

in:  flat parameters of networks, one for all contexts or one for each; the training samples that the contexts come from
out: the same networks with mean and variance of these samples in their batch normalisations

The mean of several networks has other activations than each of them, so the mean of their statistics fits it badly.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from neurogen.stages.contexts import EvaluationContext
from neurogen.stages.evaluated import Inputs
from neurogen.stages.populations import Networks
from neurogen.study.results import Population
from neurogen.targets.normalisation import recalibrated


def recalibrated_networks(
    num_samples: int | None,
    inputs: Inputs,
    contexts: Sequence[EvaluationContext],
    name: Population,
    networks: Networks | None,
) -> dict[str, Networks]:
    """A network for every context, under `name`; nothing where it is not asked for, or the target has no statistics."""
    if num_samples is None or networks is None or not inputs.layout.buffers:
        return {}
    device, made = inputs.test.runtime.device, []
    for index, context in enumerate(contexts):
        values = inputs.layout.tensors(networks[index % len(networks)].to(device))
        samples = inputs.dataset.train.inputs(context.drawn[:num_samples]).to(device)
        made.append(inputs.layout.flatten(recalibrated(inputs.network, values, samples)).cpu())
    return {name: torch.stack(made)}
