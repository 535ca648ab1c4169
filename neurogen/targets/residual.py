"""Residual networks for small images, as He et al. (2016, section 4.2) built them for CIFAR-10.

in:  the shape of the data, the number of blocks in each of three stages
out: conv 3×3 with 16 channels; stages with 16, 32 and 64 channels, each after the first halving the image; global
     average pooling; linear. With n blocks that makes 6n + 2 layers
"""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from neurogen.config.schema import written
from neurogen.data.preparation import ImageShape
from neurogen.errors import UserError

CHANNELS = (16, 16, 32, 64)  # of the first convolution, then of the stages
LEAST_SIDE = 4  # pixels, halved twice


def resnet(shape: ImageShape, blocks: int) -> nn.Module:
    """Raises UserError for images that are too small, and for less than one block."""
    if not isinstance(blocks, int) or isinstance(blocks, bool) or blocks < 1:
        raise UserError(f"target.options.blocks={written(blocks)} must be a whole number, at least 1")
    if min(shape.size) < LEAST_SIDE:
        raise UserError(
            f"resnet needs images of at least {LEAST_SIDE}×{LEAST_SIDE} pixels, these have {shape.height}×"
            f"{shape.width}; enlarge them with dataset.resize=16"
        )
    layers: list[nn.Module] = [convolution(shape.channels, CHANNELS[0], 1), nn.BatchNorm2d(CHANNELS[0]), nn.ReLU()]
    for stage, (inputs, outputs) in enumerate(pairwise(CHANNELS)):
        layers.append(Residual(inputs, outputs, stride=2 if stage else 1))
        layers += [Residual(outputs, outputs, stride=1) for _ in range(blocks - 1)]
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS[-1], shape.num_classes))
    return nn.Sequential(*layers, *pooled)


def convolution(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    """3×3, without a bias, since the normalisation behind it has one."""
    layer = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


class Residual(nn.Module):
    """x ↦ ReLU(shortcut(x) + two normalised convolutions of x). The shortcut has no values: option A of the paper."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.first_norm = convolution(inputs, outputs, stride), nn.BatchNorm2d(outputs)
        self.second, self.second_norm = convolution(outputs, outputs, 1), nn.BatchNorm2d(outputs)
        self.stride, self.new_channels = stride, outputs - inputs

    def forward(self, images: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs _ _"]:
        """The shortcut takes every stride-th pixel, and 0 in new channels."""
        hidden = functional.relu(self.first_norm(self.first(images)))
        shortcut = functional.pad(images[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))
        return functional.relu(shortcut + self.second_norm(self.second(hidden)))
