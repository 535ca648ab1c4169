"""Git Re-Basin by weight matching: permute the hidden units of a network until it lies close to a reference.

A permutation P_l of the outputs of layer l, undone at the inputs of layer l+1, does not change the function. The
permutations that minimise Σ_l ‖P_l W_l P_{l−1}ᵀ − W_l^ref‖² are found one layer after the other; each is an assignment
problem (Ainsworth, Hayase, Srinivasa 2023, section 3.2).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from neurogen.errors import UserError
from neurogen.targets.networks import MeanOfTokens
from neurogen.targets.parameters import ParameterLayout

Tensors = dict[str, Tensor]
MAX_SWEEPS = 50
# Layers that treat all channels alike: permuting before or after them is the same.
PERMUTABLE = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Identity,
    nn.Dropout,
    nn.Flatten,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    MeanOfTokens,
)


def align(
    network: nn.Module, zoo: Float[Tensor, "networks params"], layout: ParameterLayout, seed: int
) -> Float[Tensor, "networks params"]:
    """Every network of the zoo, permuted towards the first one.

    Raises UserError unless `network` is an nn.Sequential of layers that can be permuted.
    """
    layers = chain(network)
    reference = layout.tensors(zoo[0])
    rng = torch.Generator().manual_seed(seed)
    return torch.stack([layout.flatten(match(layers, layout.tensors(flat), reference, rng)) for flat in zoo])


def chain(network: nn.Module) -> list[str]:
    """Names of the weighted layers, in order, of an nn.Sequential of Linear, Conv2d and PERMUTABLE layers."""
    if not isinstance(network, nn.Sequential):
        raise UserError(
            "zoo.align=rebasin permutes nn.Sequential targets of Linear and Conv2d layers; "
            f"this target is a {type(network).__name__}; set zoo.align=none"
        )
    names = []
    for name, layer in network.named_children():
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):
            names.append(name)
        elif not isinstance(layer, PERMUTABLE):
            allowed = ", ".join(kind.__name__ for kind in PERMUTABLE)
            raise UserError(
                f"zoo.align=rebasin cannot permute a {type(layer).__name__} (beside Linear and Conv2d: {allowed}); "
                "set zoo.align=none"
            )
    return names


def match(layers: list[str], tensors: Tensors, reference: Tensors, rng: torch.Generator) -> Tensors:
    """`tensors` with hidden units permuted towards `reference`. The function stays the same."""
    for _ in range(MAX_SWEEPS):
        moved = False
        for index in torch.randperm(len(layers) - 1, generator=rng).tolist():
            layer, following = layers[index], layers[index + 1]
            similarity = _similarity(layer, following, tensors, reference)
            rows, order = linear_sum_assignment(similarity.numpy(), maximize=True)
            gain = similarity[rows, order].sum() - similarity.diagonal().sum()
            if gain > 1e-9 * similarity.abs().sum():
                tensors = permuted(layer, following, tensors, torch.from_numpy(order))
                moved = True
        if not moved:
            break
    return tensors


def permuted(layer: str, following: str, tensors: Tensors, order: Tensor) -> Tensors:
    """The outputs of `layer`, and with them the inputs of the `following` layer, in a new order."""
    changed = dict(tensors)
    for name in (f"{layer}.weight", f"{layer}.bias"):
        if name in changed:
            changed[name] = changed[name][order]
    weight = changed[f"{following}.weight"]
    changed[f"{following}.weight"] = _by_input(weight, len(order))[:, order].reshape(weight.shape)
    return changed


def _similarity(layer: str, following: str, tensors: Tensors, reference: Tensors) -> Float[Tensor, "units units"]:
    """⟨unit i of the reference, unit j⟩ over all weights that enter and leave the units."""
    units = len(reference[f"{layer}.weight"])
    total = torch.zeros(units, units, dtype=torch.float64)
    for name in (f"{layer}.weight", f"{layer}.bias"):
        if name in tensors:
            total += reference[name].double().reshape(units, -1) @ tensors[name].double().reshape(units, -1).T
    leaving, target = (_by_input(source[f"{following}.weight"], units).double() for source in (tensors, reference))
    return total + target.transpose(0, 1).reshape(units, -1) @ leaving.transpose(0, 1).reshape(units, -1).T


def _by_input(weight: Tensor, units: int) -> Float[Tensor, "outputs units rest"]:
    """A weight whose input axis is split by the units that feed it; a flattened feature map feeds several inputs."""
    return weight.reshape(len(weight), units, -1)
