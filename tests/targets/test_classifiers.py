"""Residual networks and torchvision's classifiers: the published sizes, images of any kind, what cannot be read."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from neurogen.config import Modality, TargetConfig
from neurogen.data.preparation import ImageShape
from neurogen.errors import UserError
from neurogen.targets.networks import build_network

GREY = ImageShape(1, 28, 28, 10)
COLOUR = ImageShape(3, 32, 32, 10)


def target(build: str, **options: Any) -> TargetConfig:
    return TargetConfig("name", "title", Modality.image, build, options)


def num_trained(config: TargetConfig, shape: ImageShape) -> int:
    with torch.device("meta"):
        return sum(value.numel() for value in build_network(config, shape).parameters())


@pytest.mark.parametrize(
    ("config", "shape", "count"),
    [
        (target("resnet", blocks=3), COLOUR, 269_722),  # ResNet-20: 0.27 million (He et al. 2016, table 6)
        (target("resnet", blocks=1), GREY, 75_002),
        (target("torchvision", model="resnet18"), ImageShape(3, 224, 224, 1000), 11_689_512),  # as torchvision says
        (target("torchvision", model="mobilenet_v2"), ImageShape(3, 224, 224, 1000), 3_504_872),
        (target("torchvision", model="resnet18"), COLOUR, 11_173_962),  # as usual for CIFAR-10
        (target("torchvision", model="regnet_x_400mf", stem="published"), ImageShape(3, 224, 224, 1000), 5_495_976),
    ],
)
def test_sizes_are_the_published_ones(config: TargetConfig, shape: ImageShape, count: int) -> None:
    assert num_trained(config, shape) == count


@pytest.mark.parametrize(
    "model", ["resnet18", "densenet121", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5"]
)
def test_small_grey_images_reach_the_classes(model: str) -> None:
    with torch.device("meta"):
        network = build_network(target("torchvision", model=model), GREY)
        assert not network.training
        assert network(torch.empty(2, 1, 28, 28)).shape == (2, 10)


def test_the_small_stem_keeps_the_size_of_the_image() -> None:
    with torch.device("meta"):
        sizes = {
            stem: build_network(target("torchvision", model="resnet18", stem=stem), COLOUR)
            .get_submodule("conv1")(torch.empty(2, 3, 32, 32))
            .shape[-1]
            for stem in ("auto", "small", "published")
        }
    assert sizes == {"auto": 32, "small": 32, "published": 16}


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        (target("torchvision", model="resnet19"), GREY, r"model=resnet19 is unknown; did you mean resnet"),
        (target("torchvision", model="resnet18", stem="tiny"), GREY, "stem=tiny is unknown; allowed: auto, small"),
        (target("torchvision", model="vgg11"), GREY, r"vgg11 cannot read images of 28×28 pixels .*dataset.resize=64"),
        (target("torchvision", model="vit_b_16"), GREY, "vit_b_16 cannot read images of 28×28"),
        (target("torchvision", model="maxvit_t"), COLOUR, "maxvit_t cannot read images of 32×32"),
        (target("resnet", blocks=0), GREY, "blocks=0 must be a whole number, at least 1"),
        (target("resnet", blocks=1), ImageShape(1, 3, 9, 2), "at least 4×4 pixels, these have 3×9"),
    ],
)
def test_what_does_not_fit_is_one_line(config: TargetConfig, shape: ImageShape, message: str) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=message) as error:
        build_network(config, shape)
    assert "\n" not in str(error.value)
