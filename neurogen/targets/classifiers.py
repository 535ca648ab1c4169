"""Any classifier of torchvision as a target, untrained, for images of any size, channels and number of classes.

in:  the shape of the data, the name of the model, what becomes of its stem
out: the model with as many outputs as there are classes, and a first convolution that reads as many channels

These models were made for images of 224×224 pixels, which most of them halve twice or more before their first block.
With `stem=small` the first convolution keeps the size of the image (3×3 at most, stride 1), and a max pool right behind
it is left out: what is usual for CIFAR-10. `auto` does so below 64 pixels. A vision transformer keeps its patches.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from enum import StrEnum
from typing import Any

import torch
from torch import nn

from neurogen.config.schema import unknown_value
from neurogen.data.preparation import ImageShape
from neurogen.errors import UserError, one_line, one_of

SMALL = 64  # pixels; smaller images have the small stem
POOLS = ("maxpool", "maxpool1", "features.pool0")  # right behind the first convolution: ResNet, GoogLeNet, DenseNet


class Stem(StrEnum):
    """What becomes of the layers that read the image."""

    auto = "auto"  # small for small images
    small = "small"
    published = "published"


def torchvision(shape: ImageShape, model: str, stem: str = Stem.auto) -> nn.Module:
    """Raises UserError for a model that torchvision does not have, or that cannot read images of this size."""
    from torchvision import models

    names = names_of_models()
    if model not in names:
        raise UserError(unknown_value(f"target.options.model={model}", str(model), names))
    one_of("target.options.stem", str(stem), tuple(Stem))
    options = {"weights": None, "num_classes": shape.num_classes} | _extras(model, shape)
    place = torch.get_default_device()
    with torch.device("cpu") if model.startswith("regnet") else nullcontext():  # it computes its widths with tensors
        try:
            network: nn.Module = models.get_model(model, **options).to(place)
        except (AssertionError, ValueError) as error:
            raise UserError(_misfit(model, shape, error)) from error
    is_small = stem == Stem.small or (stem == Stem.auto and min(shape.size) < SMALL)
    name, first = next((name, part) for name, part in network.named_modules() if isinstance(part, nn.Conv2d))
    has_patches = first.kernel_size == first.stride != (1, 1)
    if first.in_channels != shape.channels or (is_small and not has_patches):
        network.set_submodule(name, _first(first, shape.channels, is_small and not has_patches))
    for pool in POOLS if is_small else ():
        if pool in dict(network.named_modules()):
            network.set_submodule(pool, nn.Identity())
    _require_fit(network, model, shape)
    return network


def names_of_models() -> list[str]:
    """All classifiers that torchvision has."""
    from torchvision import models

    return list(models.list_models(module=models))


def _extras(model: str, shape: ImageShape) -> dict[str, Any]:
    """Options that some models have: no second output for training, our own choice of initial weights, patches."""
    extras: dict[str, Any] = {}
    if model in ("googlenet", "inception_v3"):
        extras |= {"aux_logits": False, "init_weights": True}
    if model.startswith("vit_"):
        extras |= {"image_size": shape.height}
    if model == "maxvit_t":
        extras |= {"input_size": shape.size}
    return extras


def _first(layer: nn.Conv2d, channels: int, is_small: bool) -> nn.Conv2d:
    """The first convolution for so many channels; with `is_small` it keeps the size of the image."""
    kernel = tuple(min(size, 3) for size in layer.kernel_size) if is_small else layer.kernel_size
    stride, padding = ((1, 1), tuple(size // 2 for size in kernel)) if is_small else (layer.stride, layer.padding)
    new = nn.Conv2d(channels, layer.out_channels, kernel, stride, padding, bias=layer.bias is not None)  # type: ignore[arg-type]
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    return new


def _require_fit(network: nn.Module, model: str, shape: ImageShape) -> None:
    """A pass without values says whether the images survive all that halves them."""
    images = torch.empty(2, shape.channels, *shape.size, device="meta")
    try:
        copy.deepcopy(network).to("meta").eval()(images)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UserError(_misfit(model, shape, error)) from error


def _misfit(model: str, shape: ImageShape, error: Exception) -> str:
    return (
        f"target.options.model={model} cannot read images of {shape.height}×{shape.width} pixels ({one_line(error)}); "
        "enlarge them, as with dataset.resize=64 or dataset.resize=224, or take another model"
    )
