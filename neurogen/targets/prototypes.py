"""Rows of the output layer for classes that are shown: the mean feature of a class's samples, at a fixed length.

in:  a target network that ends in a linear layer, with its parameters; samples of each class
out: rows of that layer; the parameters with these rows

The features of a sample are what the output layer reads. All rows have the same length and the same bias, so a sample
is of the class whose mean feature has the smallest angle to its own (Snell et al. 2017; with cosines, Gidaris and
Komodakis 2018).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call

from neurogen.errors import UserError


def output_layer(network: nn.Module) -> tuple[str, nn.Linear]:
    """The name and the module of the last layer. Raises UserError for a target that does not end in a linear one."""
    *_, (name, module) = ((name, module) for name, module in network.named_modules() if list(module.parameters(False)))
    if not isinstance(module, nn.Linear):
        raise UserError(
            f"classes that are shown need a target that ends in a linear layer, and this one ends in "
            f"{type(module).__name__}; use another target"
        )
    return name, module


def features(
    network: nn.Module, tensors: Mapping[str, Tensor] | None, inputs: Float[Tensor, "samples ..."]
) -> Float[Tensor, "samples features"]:
    """What the output layer reads. `tensors` are the values of a finished network; None: the network as it is."""
    read: list[Tensor] = []
    _, layer = output_layer(network)
    hook = layer.register_forward_pre_hook(lambda _, arguments: read.append(arguments[0]))
    was_training = network.training
    network.train(was_training and tensors is None)
    try:
        network(inputs) if tensors is None else functional_call(network, dict(tensors), (inputs,))
    finally:
        hook.remove()
        network.train(was_training)
    return read[0]


def prototypes(
    features: Float[Tensor, "samples features"], labels: Int64[Tensor, " samples"], num_classes: int
) -> Float[Tensor, "classes features"]:
    """The mean feature of every class, at length 1. Every class has samples."""
    sums = features.new_zeros(num_classes, features.shape[1]).index_add(0, labels, features)
    return nn.functional.normalize(sums, dim=1)


def output_rows(
    network: nn.Module, tensors: Mapping[str, Tensor]
) -> tuple[Float[Tensor, "rows features"], Float[Tensor, " rows"]]:
    """(rows of the output layer, the bias of each, which is 0 where there is none)."""
    name, layer = output_layer(network)
    prefix = f"{name}." if name else ""
    weight = tensors[f"{prefix}weight"]
    return weight, weight.new_zeros(len(weight)) if layer.bias is None else tensors[f"{prefix}bias"]


def with_rows(
    network: nn.Module, tensors: Mapping[str, Tensor], weight: Float[Tensor, "rows features"], bias: float
) -> dict[str, Tensor]:
    """The parameters, of which those of the output layer have these rows and this bias behind their own."""
    name, layer = output_layer(network)
    prefix = f"{name}." if name else ""
    joined = dict(tensors)
    joined[f"{prefix}weight"] = torch.cat([tensors[f"{prefix}weight"], weight])
    if layer.bias is not None:
        biases = tensors[f"{prefix}bias"]
        joined[f"{prefix}bias"] = torch.cat([biases, biases.new_full((len(weight),), bias)])
    return joined
