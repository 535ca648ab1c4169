"""Running statistics of normalisation layers, as values that are generated.

`gradients_reach_statistics`  torch's batch_norm does not differentiate by them; inside this context it does
`recalibrated`                the same network with the statistics of given samples in place of its own
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.overrides import TorchFunctionMode

from neurogen.targets.values import fill, values_of


@contextmanager
def gradients_reach_statistics(values: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, normalisation with statistics that need a gradient is written out, so that they get it. Nothing changes
    for networks without such values."""
    if not any(name.rpartition(".")[2].startswith("running_") for name in values):
        yield
        return
    with _WrittenOut():
        yield


class _WrittenOut(TorchFunctionMode):
    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Any = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is nn.functional.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        if function is nn.functional.instance_norm:
            return _instance_norm(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _batch_norm(
    inputs: Float[Tensor, "batch channels ..."],
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Float[Tensor, "batch channels ..."]:
    """nn.functional.batch_norm: (x − mean) / √(variance + ε) · weight + bias."""
    if training or running_mean is None or running_var is None:
        return nn.functional.batch_norm(inputs, running_mean, running_var, weight, bias, training, momentum, eps)
    factor = torch.rsqrt(running_var + eps)
    factor = factor if weight is None else factor * weight
    offset = -running_mean * factor
    offset = offset if bias is None else offset + bias
    per_channel = (1, -1, *[1] * (inputs.dim() - 2))
    return torch.addcmul(offset.view(per_channel), inputs, factor.view(per_channel))


def _instance_norm(
    inputs: Float[Tensor, "batch channels ..."],
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Float[Tensor, "batch channels ..."]:
    """nn.functional.instance_norm: with running statistics it is what batch_norm is."""
    if use_input_stats:
        return nn.functional.instance_norm(inputs, running_mean, running_var, weight, bias, True, momentum, eps)
    return _batch_norm(inputs, running_mean, running_var, weight, bias, False, momentum, eps)


@torch.no_grad()
def recalibrated(
    network: nn.Module, values: Mapping[str, Tensor], inputs: Float[Tensor, "batch ..."]
) -> dict[str, Tensor]:
    """The values of a network with mean and variance of these inputs in its normalisations.

    Every layer sees what the layers before it give once they are recalibrated themselves.
    """
    device = inputs.device
    new = copy.deepcopy(network).to(device).eval()
    fill(new, values)
    for module in new.modules():
        if isinstance(module, (_BatchNorm, _InstanceNorm)) and module.track_running_stats:
            module.train()
            module.momentum = 1.0  # the last batch alone counts
    new(inputs)
    return {name: value.detach() for name, value in values_of(new).items()}
