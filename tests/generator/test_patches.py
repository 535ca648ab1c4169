"""The trained patch embedding of images."""

from __future__ import annotations

import pytest
import torch

from neurogen.data.preparation import ImageShape
from neurogen.generator.patches import PatchEmbedding


@pytest.mark.parametrize("shape", [ImageShape(1, 8, 8, 10), ImageShape(3, 33, 20, 2), ImageShape(1, 28, 28, 10)])
def test_an_image_is_four_patches_that_see_all_of_it(shape: ImageShape) -> None:
    patches = PatchEmbedding(shape, 16, 0.1)
    images = torch.randn(5, shape.channels, shape.height, shape.width, requires_grad=True)
    out = patches(images)
    assert out.shape == (5, 4, 16)
    out.square().sum().backward()
    assert images.grad is not None
    assert images.grad.all()
