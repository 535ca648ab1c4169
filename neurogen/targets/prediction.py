"""What target networks with given parameters say of a split, and how good that is.

in:  a split, prepared once for all networks that are judged on it (`Batches`); a network and its parameters
out: logits, cross-entropy and accuracy, on the device of the batches until somebody needs the numbers
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from torch.func import functional_call

from neurogen.data.dataset import Split
from neurogen.data.preparation import Texts, TokenEmbedding

EVALUATION_BATCH = 2048
KEPT_BYTES = 2**29  # validation and test of every dataset in conf/ take less, SVHN's 26,032 test images 320 MB


class Batches:
    """A split in batches, as target networks read it, on one device.

    The prepared inputs are kept where they take at most KEPT_BYTES, else prepared again for every network. Texts of
    like length share a batch, so that little of it is padding.
    """

    def __init__(self, split: Split, device: torch.device) -> None:
        order = torch.arange(len(split))
        if isinstance(split.samples, Texts):
            assert isinstance(split.preparation, TokenEmbedding)
            lengths = split.samples.lengths.cpu()
            order = lengths.argsort(stable=True)
            numbers_per_sample = int(lengths.max()) * split.preparation.table.shape[1]
        else:
            numbers_per_sample = split.samples[0].numel()
        self.device = device
        self.split = split.to(device)
        self.parts = order.to(device).split(EVALUATION_BATCH)
        self.places = order.argsort().to(device)  # of the samples in the order of the batches
        fits = 4 * numbers_per_sample * len(split) <= KEPT_BYTES
        self.kept = list(self._prepared()) if fits else None

    @property
    def labels(self) -> Int64[Tensor, " samples"]:
        """In the order of the split, as the logits of `predict` are."""
        return self.split.labels

    def __iter__(self) -> Iterator[Float[Tensor, "batch ..."]]:
        """The inputs of every batch."""
        return self._prepared() if self.kept is None else iter(self.kept)

    def _prepared(self) -> Iterator[Float[Tensor, "batch ..."]]:
        return (self.split.inputs(part) for part in self.parts)


@torch.no_grad()
def predict(network: nn.Module, tensors: dict[str, Tensor], batches: Batches) -> Float[Tensor, "samples classes"]:
    """Logits of `network` with these values on a whole split, in its order and on the device of the batches.

    The network is in evaluation mode meanwhile; values that are not given are its own.
    """
    tensors = {name: value.to(batches.device) for name, value in tensors.items()}
    was_training = network.training
    network.eval()
    logits = torch.cat([functional_call(network, tensors, (inputs,)) for inputs in batches])
    network.train(was_training)
    return logits[batches.places]


def judge(network: nn.Module, tensors: dict[str, Tensor], batches: Batches) -> Float64[Tensor, " 2"]:
    """[cross-entropy, accuracy as a fraction] of `network` with these parameters, on the device of the batches."""
    logits = predict(network, tensors, batches)
    loss = nn.functional.cross_entropy(logits, batches.labels)
    accuracy = (logits.argmax(1) == batches.labels).double().mean()
    return torch.stack([loss.double(), accuracy])


def evaluate_network(network: nn.Module, tensors: dict[str, Tensor], batches: Batches) -> tuple[float, float]:
    """(cross-entropy, accuracy as a fraction) of `network` with these parameters."""
    loss, accuracy = judge(network, tensors, batches).tolist()
    return loss, accuracy


def accuracy_of(predicted: Int64[Tensor, " samples"], labels: Int64[Tensor, " samples"]) -> float:
    """The fraction of samples that are predicted correctly."""
    return float((predicted == labels).double().mean())
