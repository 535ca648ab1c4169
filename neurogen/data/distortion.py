"""Pictures as other hands would have written them: turned, slanted, stretched, bent, with a thicker or thinner pen.

in:  grey pictures, light on dark, and an rng
out: as many pictures, each changed by itself
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

ANGLE, SLANT, STRETCH, SHIFT = 0.2, 0.2, 0.12, 0.06  # deviations: radians, and fractions of half a picture
BEND, KNOTS = 0.06, 4  # deviation of the knots of a smooth displacement, and how many there are in a row
SHARE_OF_OTHER_PENS = 0.5  # half of them thicker

Pictures = Float[Tensor, "samples channels height width"]  # from 0, the background, to 1


def distorted(pictures: Pictures, rng: torch.Generator) -> Pictures:
    """Every picture as another hand would have written it. `rng` is on the CPU."""
    return _other_pen(_bent(pictures, rng), rng)


def _bent(pictures: Pictures, rng: torch.Generator) -> Pictures:
    count, _, height, width = pictures.shape
    angle, slant = (torch.randn(count, generator=rng) * deviation for deviation in (ANGLE, SLANT))
    wide, tall = ((torch.randn(count, generator=rng) * STRETCH).exp() for _ in range(2))
    shift = torch.randn(count, 2, generator=rng) * SHIFT
    cos, sin = angle.cos(), angle.sin()
    across = torch.stack([cos * wide, cos * slant - sin * tall, shift[:, 0]], 1)
    down = torch.stack([sin * wide, sin * slant + cos * tall, shift[:, 1]], 1)
    grid = functional.affine_grid(torch.stack([across, down], 1), [count, 1, height, width], align_corners=False)
    knots = torch.randn(count, 2, KNOTS, KNOTS, generator=rng) * BEND
    smooth = functional.interpolate(knots, size=(height, width), mode="bilinear", align_corners=True)
    grid = (grid + smooth.permute(0, 2, 3, 1)).to(pictures.device)
    return functional.grid_sample(pictures, grid, align_corners=False)


def _other_pen(pictures: Pictures, rng: torch.Generator) -> Pictures:
    """Some pictures with lines half a pixel wider, some with lines half a pixel narrower."""
    draw = torch.rand(len(pictures), generator=rng).to(pictures.device)[:, None, None, None]
    wider = (pictures + functional.max_pool2d(pictures, 3, 1, 1)) / 2
    narrower = (pictures - functional.max_pool2d(-pictures, 3, 1, 1)) / 2
    half = SHARE_OF_OTHER_PENS / 2
    return torch.where(draw < half, wider, torch.where(draw < 2 * half, narrower, pictures))
