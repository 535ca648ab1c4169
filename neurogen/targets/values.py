"""The values of a network: what training leaves in it and a generated network needs.

in:  a module
out: its parameters and its floating-point buffers by name, module by module; each tensor once, also where it is tied

Buffers that are not stored (`persistent=False`) are constants of the code and no values. Counters and other integers
are none either: they stay as the builder makes them, so they must be the same in every network (`require_constant`).
Whatever else a module keeps must be the same too (`require_determined`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from neurogen.errors import UserError
from neurogen.rng import global_generator

COUNTER = "num_batches_tracked"  # of normalisation layers: it matters to training alone


def values_of(network: nn.Module) -> dict[str, Tensor]:
    """The values by name, on their device and attached to the network.

    Raises UserError for a target with nothing to train, and for one whose values cannot be generated.
    """
    _require_known_shapes(network)
    if not any(value.requires_grad for value in network.parameters()):
        raise UserError("the target has no trainable parameters; give it some")
    stored, tied, values = network.state_dict().keys(), set[int](), dict[str, Tensor]()
    for prefix, module in network.named_modules():
        inside = [
            *module.named_parameters(prefix, recurse=False),
            *((name, value) for name, value in module.named_buffers(prefix, recurse=False) if name in stored),
        ]
        for name, value in inside:
            if id(value) in tied or not _is_value(value):
                continue
            tied.add(id(value))
            _require_single_precision(name, value)
            values[name] = value
    return values


def buffers_of(network: nn.Module) -> tuple[str, ...]:
    """The names of those values that are no parameters: statistics of normalisation layers."""
    parameters = {id(value) for value in network.parameters()}
    return tuple(name for name, value in values_of(network).items() if id(value) not in parameters)


def fill(network: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Copy values into a network. Raises UserError for those of another one."""
    expected = {name: tuple(value.shape) for name, value in values_of(network).items()}
    given = {name: tuple(value.shape) for name, value in values.items()}
    if given != expected:
        raise UserError(f"these are another network's parameters: expected {expected}, given {given}")
    network.load_state_dict(dict(values), strict=False)  # what is missing is tied to what is there, or an integer


def integers_of(network: nn.Module) -> dict[str, Tensor]:
    """Stored buffers that are not generated, but for counters."""
    stored = network.state_dict().keys()
    return {
        name: value
        for name, value in network.named_buffers()
        if name in stored and not _is_value(value) and name.rpartition(".")[2] != COUNTER
    }


def require_constant(network: nn.Module, other: nn.Module) -> None:
    """Raises UserError where integers differ between two networks of a target: they matter and are not generated."""
    for (name, value), before in zip(integers_of(network).items(), integers_of(other).values(), strict=True):
        if not torch.equal(value.cpu(), before.cpu()):
            raise UserError(
                f"the target's buffer {name} ({_type(value)}) is not the same in every network, and only floating-"
                "point values can be generated; make it a constant of the builder, or a floating-point buffer"
            )


@torch.no_grad()
def require_determined(network: nn.Module, other: nn.Module, inputs: Float[Tensor, "batch ..."]) -> None:
    """Raises UserError unless two networks of a target answer alike with the same values, and at every call.

    `other` gets the values of `network`. Both and the inputs are on the CPU, in evaluation mode.
    """
    fill(other, values_of(network))
    with global_generator():
        answers = torch.stack([network(inputs), network(inputs), other(inputs)])
    rounding = 1e-3 * answers[0].abs().max()  # the layout in memory, which may differ, decides how sums are rounded
    if (answers - answers[0]).abs().max() > rounding:
        raise UserError(
            "the target gives other logits for the same values: something random in it is not stored; store it with "
            "register_buffer, draw it in the builder from a torch.Generator with a seed, or leave it out in "
            "evaluation mode"
        )


def _is_value(value: Tensor) -> bool:
    return isinstance(value, nn.Parameter) or value.is_floating_point() or value.is_complex()


def _require_known_shapes(network: nn.Module) -> None:
    for name, value in (*network.named_parameters(), *network.named_buffers()):
        if is_lazy(value):
            raise UserError(
                f"the target's {name} has no shape yet (a lazy module); run the module once in its builder, or give "
                "the layer its sizes"
            )


def _require_single_precision(name: str, value: Tensor) -> None:
    if value.dtype != torch.float32:
        raise UserError(
            f"the target's {name} is {_type(value)}, and generated values are float32; let the builder return "
            "module.float()"
        )


def _type(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
