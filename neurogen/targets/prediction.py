"""What a target network with given parameters says of a split, and how good that is."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call

from neurogen.data.dataset import Split
from neurogen.training.runtime import Runtime

EVALUATION_BATCH = 2048


@torch.no_grad()
def predict(
    network: nn.Module, tensors: dict[str, Tensor], split: Split, runtime: Runtime
) -> Float[Tensor, "samples classes"]:
    """Logits of `network` with these parameters on a whole split, on the CPU."""
    parts = torch.arange(len(split)).split(EVALUATION_BATCH)
    tensors = {name: value.to(runtime.device) for name, value in tensors.items()}
    return torch.cat(
        [functional_call(network, tensors, (split.inputs(part).to(runtime.device),)).cpu() for part in parts]
    )


def evaluate_network(
    network: nn.Module, tensors: dict[str, Tensor], split: Split, runtime: Runtime
) -> tuple[float, float]:
    """(cross-entropy, accuracy as a fraction) of `network` with these parameters on a split."""
    logits = predict(network, tensors, split, runtime)
    return float(nn.functional.cross_entropy(logits, split.labels)), accuracy_of(logits.argmax(1), split.labels)


def accuracy_of(predicted: Int64[Tensor, " samples"], labels: Int64[Tensor, " samples"]) -> float:
    """The fraction of samples that are predicted correctly."""
    return float((predicted == labels).double().mean())
