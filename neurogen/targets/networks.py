"""Target networks f: the small classifiers whose parameters are generated.

A builder takes the shape of the data and the options of its YAML file, and returns an untrained module. To add a target
of your own, write such a function anywhere on the Python path, and a file in conf/target (or --config-dir) that names
it.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from neurogen.config import TargetConfig
from neurogen.config.schema import written
from neurogen.data.preparation import DataShape, ImageShape, TextShape
from neurogen.errors import UserError, one_line
from neurogen.experiment import named_function
from neurogen.rng import global_generator


def build_network(config: TargetConfig, shape: DataShape) -> nn.Module:
    """The untrained target, in evaluation mode, as all generated networks are used. The global rng stays untouched.

    Raises UserError when there is no such builder, or it refuses the options or the shape.
    """
    builder = named_function("target.build", config.build)
    try:
        inspect.signature(builder).bind(shape, **config.options)
    except TypeError as error:
        allowed = ", ".join(list(inspect.signature(builder).parameters)[1:]) or "none"
        raise UserError(
            f"target.options={written(config.options)}: {error}; options of {config.build}: {allowed}"
        ) from error
    with global_generator():
        network = builder(shape, **config.options)
    if not isinstance(network, nn.Module):
        raise UserError(
            f"target.build={config.build} returned a {type(network).__name__}; let it return a torch.nn.Module"
        )
    return network.eval()


@torch.no_grad()
def require_classifier(network: nn.Module, shape: DataShape, sample: Tensor) -> None:
    """Raises UserError for a network that gives something else than a logit per class for a batch of samples."""
    try:
        logits = network(torch.stack([sample, sample]))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise UserError(
            f"the target fails for two samples of the shape {list(sample.shape)}: {one_line(error)} "
            f"({type(error).__name__})"
        ) from error
    expected = [2, shape.num_classes]
    if not isinstance(logits, Tensor) or list(logits.shape) != expected:
        given = list(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise UserError(
            f"the target gives {given} for two samples, and must give {expected}, a logit for each of the "
            f"{shape.num_classes} classes; take shape.num_classes outputs"
        )


def lenet(shape: ImageShape) -> nn.Module:
    """LeNet-5 (paper reference [41]) with ReLU and max pooling, for images of at least 12×12 pixels."""
    height, width = _pooled(_pooled((shape.height, shape.width)), shrink=4)
    if min(height, width) < 1:
        raise UserError(_too_small("lenet", 12, shape))
    return nn.Sequential(
        nn.Conv2d(shape.channels, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * height * width, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, shape.num_classes),
    )


def cnn(shape: ImageShape, channels: list[int]) -> nn.Module:
    """[conv 3×3, ReLU, max pool] per entry of `channels`, global average pooling, linear (paper 4.1)."""
    if not isinstance(channels, (list, tuple)) or not channels or not all(map(_is_count, channels)):
        raise UserError(
            f"target.options.channels={written(channels)} needs a whole number of channels for every block, 1 or more: "
            "target.options.channels=[8,16]"
        )
    if min(shape.height, shape.width) < 2 ** len(channels):
        raise UserError(_too_small(f"a cnn of {len(channels)} blocks", 2 ** len(channels), shape))
    layers: list[Any] = []
    for inputs, outputs in zip([shape.channels, *channels], channels, strict=False):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], shape.num_classes))


def mlp(shape: TextShape, hidden: int) -> nn.Module:
    """Mean over the tokens without padding, linear, ReLU, linear (paper 4.1)."""
    _require_hidden(hidden)
    return nn.Sequential(
        MeanOfTokens(), nn.Linear(shape.embedding_dim, hidden), nn.ReLU(), nn.Linear(hidden, shape.num_classes)
    )


def rnn(shape: TextShape, hidden: int) -> nn.Module:
    """One vanilla recurrent layer, linear on its state at the last token before padding (paper 4.1)."""
    _require_hidden(hidden)
    return LastState(shape.embedding_dim, hidden, shape.num_classes)


def is_token(texts: Float[Tensor, "batch tokens embedding"]) -> Bool[Tensor, "batch tokens"]:
    """False at padding, which is all zeros; no token's embedding is."""
    return (texts.amax(-1) != 0) | (texts.amin(-1) != 0)  # several times as fast as any(-1)


class MeanOfTokens(nn.Module):
    """The mean of a text's embeddings, padding left out."""

    def forward(self, texts: Float[Tensor, "batch tokens embedding"]) -> Float[Tensor, "batch embedding"]:
        """Every text has at least one token."""
        return texts.sum(1) / is_token(texts).sum(1, keepdim=True)


class LastState(nn.Module):
    """A recurrent layer, read at the last token of each text; the padding behind it has no effect."""

    def __init__(self, embedding_dim: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.recurrent = nn.RNNCell(embedding_dim, hidden)  # nn.RNN would rearrange generated weights on a GPU
        self.output = nn.Linear(hidden, num_classes)

    def forward(self, texts: Float[Tensor, "batch tokens embedding"]) -> Float[Tensor, "batch classes"]:
        """Logits."""
        cell = self.recurrent
        weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
        start = texts.new_zeros(1, len(texts), cell.hidden_size)
        # batch first; in training mode always, since gradients reach generated weights through a GPU's RNN only there
        states, _ = torch.rnn_tanh(texts, start, weights, True, 1, 0.0, True, False, True)
        last = is_token(texts).sum(1) - 1
        logits: Tensor = self.output(states[torch.arange(len(texts), device=texts.device), last])
        return logits


def _require_hidden(hidden: int) -> None:
    if not _is_count(hidden):
        raise UserError(f"target.options.hidden={written(hidden)} must be a whole number, at least 1")


def _is_count(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 1


def _pooled(size: tuple[int, int], shrink: int = 0) -> tuple[int, int]:
    return (size[0] - shrink) // 2, (size[1] - shrink) // 2


def _too_small(target: str, least: int, shape: ImageShape) -> str:
    return (
        f"{target} needs images of at least {least}×{least} pixels, these have {shape.height}×{shape.width}; "
        f"use another target (cnn, cnn_small) or enlarge them with dataset.resize={max(least, 16)}"
    )
