"""Images that a program hands over → bytes.

in:  an array, a tensor, or a list of arrays, tensors or pictures of Pillow: bytes from 0 to 255, or floats from 0 to 1
out: bytes [samples, channels, height, width]
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neurogen.data.pictures import pixels_in_memory
from neurogen.errors import UserError, one_line

CHANNELS = (1, 3)
FEW = 4  # channels at most that pictures have: with transparency
ROUNDING = 1e-6  # so far beside 0 … 1 are floats that were meant to be inside


def as_bytes(
    images: Any, what: str = "the images", *, channels: int | None = None, size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Images as bytes [samples, channels, height, width].

    `images` is an array, a tensor or a list of arrays: bytes from 0 to 255 (uint8), or floats from 0 to 1, which are
    rounded to bytes. [samples, height, width] are grey images. A list may hold pictures of Pillow, which get so many
    `channels` and this `size`, (height, width); left out, they are grey where all of them are, and stay as large.

    Raises UserError for other values, other shapes, images of different sizes, and what is no array.
    """
    pixels = _array(images, what, channels, size)
    if pixels.size == 0:
        raise UserError(f"{what} are empty, of the shape {list(pixels.shape)}; give at least one")
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    if pixels.ndim != 4:
        raise UserError(
            f"{what} have the shape {list(pixels.shape)}; give [samples, channels, height, width], or "
            "[samples, height, width] for grey images"
        )
    if _is_channels_last(pixels.shape):
        raise UserError(
            f"{what} have the shape {list(pixels.shape)}, with the channels last; give "
            "[samples, channels, height, width]: images.transpose(0, 3, 1, 2)"
        )
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise UserError(f"{what} have the type {pixels.dtype}; give bytes from 0 to 255 (uint8), or floats from 0 to 1")
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # false for NaN too
        raise UserError(
            f"{what} are floats from {low:.8g} to {high:.8g}; give floats from 0 to 1, or bytes from 0 to 255 (uint8)"
        )
    return np.ascontiguousarray(np.rint(pixels * 255).clip(0, 255).astype(np.uint8))


def _is_channels_last(shape: tuple[int, ...]) -> bool:
    """Whether [samples, a, b, c] must be [samples, height, width, channels]; a small c alone may be a width."""
    _, first, second, last = shape
    return (first not in CHANNELS and last in CHANNELS) or last <= FEW < min(first, second)


def _array(images: Any, what: str, channels: int | None, size: tuple[int, int] | None) -> NDArray[Any]:
    """One array of all images. Pictures of Pillow are read as files with them would be."""
    if not isinstance(images, (list, tuple)):
        return _numbers(images, what)
    if not images:
        raise UserError(f"{what} are an empty list; give at least one")
    if all(hasattr(image, "getbands") for image in images):
        parts: list[NDArray[Any]] = list(pixels_in_memory(images, channels, size))
    else:
        parts = [_numbers(image, what) for image in images]
    shapes = sorted({part.shape for part in parts})
    if len(shapes) > 1:
        listed = " and ".join(str(list(shape)) for shape in shapes[:2])
        raise UserError(f"{what} must have one size and one number of channels; there are {listed}")
    return np.stack(parts)


def _numbers(image: Any, what: str) -> NDArray[Any]:
    """An array of what numpy or torch can read. Raises UserError, which names the type, for all else."""
    try:
        if hasattr(image, "detach"):
            tensor = image.detach().cpu()
            array = np.asarray(tensor.float() if tensor.dtype == torch.bfloat16 else tensor)  # numpy has no bfloat16
        else:
            array = np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{what} are a {type(image).__name__} that cannot be read as an array ({one_line(error)}); give an array, "
            "or a list of arrays of one size"
        ) from error
    if array.dtype == object:
        raise UserError(
            f"{what} are a {type(image).__name__}, which is no array of numbers; give an array, or a list of arrays"
        )
    return array
