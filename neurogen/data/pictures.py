"""One picture file → pixels, as a person sees them in a viewer.

in:  a file: PNG, JPEG, GIF, BMP, WEBP, TIFF, PNM, whatever its ending
out: uint8 [channels, height, width] of the size that is asked for, and remarks on what was changed on the way

    grey of 16 bits          its full range 0 … 65535 becomes 0 … 255
    floats from 0 to 1       become 0 … 255; other floats have no known range and are refused
    transparency             is put on white
    EXIF orientation         is applied
    several frames           the first is read
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from os import PathLike
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from neurogen.errors import UserError, one_line
from neurogen.progress import when_slow

# What Pillow's decoders let through for broken files, beside what they mean to raise
BROKEN = (
    OSError,
    ValueError,  # beside its own meaning: wrong encodings in metadata
    SyntaxError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
)
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM")  # of Pillow's others, some start programs
FULL_RANGE = 65535  # of 16 bits
TIFF_PHOTOMETRY, WHITE_IS_0 = 262, 0  # a tag and its value, which Pillow minds in grey of 8 bits alone
WIDE_GREY = ("I;16", "I;16B", "I;16L", "I;16N", "I")  # more than 8 bits
_WARNINGS = Lock()  # who catches them does so for all threads
SCALED_BY_PILLOW = ("PNG", "PPM")  # formats whose mode I is grey of 16 bits in any case


class Remark(StrEnum):
    """What was changed in a picture, as notes say it."""

    TRANSPARENT = "transparent, put on white"
    WIDE = "grey of 16 bits, scaled to 8"
    FLOAT = "floats, scaled to 8 bits"
    TURNED = "turned as their EXIF data say"
    FRAMES = "of several frames, of which the first is read"
    ODD = "read although Pillow warns of them"


@dataclass(frozen=True)
class Picture:
    """Pixels [channels, height, width], and what was changed to make them."""

    pixels: NDArray[np.uint8]
    remarks: tuple[Remark, ...]


def read_all(
    paths: Sequence[str | PathLike[str]], channels: int, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """(pixels [pictures, channels, height, width], notes on what was changed). Raises UserError as `read_picture`."""
    pixels = np.empty((len(paths), channels, *size), dtype=np.uint8)
    remarks: Counter[Remark] = Counter()
    for index, path in enumerate(when_slow(paths, "pictures", unit="pictures")):
        picture = read_picture(path, channels, size)
        pixels[index] = picture.pixels
        remarks.update(picture.remarks)
    parts = [f"{remarks[remark]:,} {remark}" for remark in Remark if remarks[remark]]
    return pixels, (f"pictures: {', '.join(parts)}",) if parts else ()


def pixels_in_memory(
    pictures: Sequence[Any], channels: int | None = None, size: tuple[int, int] | None = None
) -> list[NDArray[np.uint8]]:
    """Pictures of Pillow → [channels, height, width] each: grey for one channel, RGB for others.

    `size` is (height, width) in pixels; left out, they stay as large. Without `channels` they are grey where all of
    them are. Raises UserError for values whose meaning is not known.
    """
    remarks: list[Remark] = []
    try:
        in_8_bits = [
            _in_8_bits(_upright(picture, remarks), picture.format, _zero_is_black(picture), remarks)
            for picture in pictures
        ]
    except UnknownValues as error:
        raise UserError(f"a picture {error}") from error
    plain = [_opaque(picture, remarks) for picture in in_8_bits]
    if channels is None:
        channels = 1 if all(picture.mode in ("1", "L") for picture in plain) else 3
    return [_pixels(picture, channels, size or (picture.height, picture.width)) for picture in plain]


def scaled(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Grey or RGB [pictures, channels, height, width], resized to (height, width) as files with them would be."""
    channels = pixels.shape[1]
    planes = (part[0] if channels == 1 else part.transpose(1, 2, 0) for part in pixels)
    return np.stack([_pixels(Image.fromarray(np.ascontiguousarray(part)), channels, size) for part in planes])


def read_picture(path: str | PathLike[str], channels: int, size: tuple[int, int]) -> Picture:
    """Grey for one channel, RGB for three, resized to `size`, (height, width) in pixels.

    Raises UserError, which names the file, for a broken picture, for more pixels than Pillow opens without a warning
    (89 million), and for values whose meaning is not known.
    """
    remarks: list[Remark] = []
    with _naming_memory(path), _WARNINGS, warnings.catch_warnings(record=True, action="always") as caught:
        with _refusing_broken(path), _opened(path) as source:
            upright, zero_is_black = _upright(source, remarks), _zero_is_black(source)
        try:
            in_8_bits = _in_8_bits(upright, source.format, zero_is_black, remarks)
        except UnknownValues as error:
            raise UserError(f"{path} {error}") from error
        with _refusing_broken(path):
            pixels = _pixels(_opaque(in_8_bits, remarks), channels, size)
    if any(not issubclass(warning.category, ResourceWarning) for warning in caught):  # those are of other code
        remarks.append(Remark.ODD)
    return Picture(pixels, tuple(remarks))


@contextmanager
def _refusing_broken(path: str | PathLike[str]) -> Iterator[None]:
    """Around what Pillow makes of a file: whatever it raises becomes a UserError that names the file."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(
            f"{path} is larger than pictures should be ({one_line(error)}); make it smaller or remove it"
        ) from error
    except BROKEN as error:
        reason = one_line(error) or type(error).__name__
        raise UserError(f"{path} is no readable picture ({reason}); repair or remove it") from error


@contextmanager
def _naming_memory(path: str | PathLike[str]) -> Iterator[None]:
    """Around all that is made of a file: a UserError that names it where there is not enough memory."""
    try:
        yield
    except MemoryError as error:
        raise UserError(
            f"{path} takes more memory than there is; make it smaller, repair or remove it, or free some memory"
        ) from error


def _pixels(picture: Any, channels: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture of 8 bits as [channels, height, width]: grey for one channel, else RGB."""
    whole = picture.convert("L" if channels == 1 else "RGB").resize((size[1], size[0]))
    return np.asarray(whole).reshape(*size, -1).transpose(2, 0, 1)


def _opened(path: str | PathLike[str]) -> Any:
    """The file, of which Pillow has read the head. Raises as Pillow does, also where it would only warn of the size."""
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    return Image.open(path, formats=FORMATS)


class UnknownValues(Exception):
    """A picture is whole, but what its values mean is not known. The message goes on after the file's name."""


def _upright(source: Any, remarks: list[Remark]) -> Any:
    """The first frame of an opened file, turned as its EXIF data say."""
    if getattr(source, "is_animated", False):
        remarks.append(Remark.FRAMES)
    source.load()
    if source.getexif().get(ExifTags.Base.Orientation) not in range(2, 9):
        return source
    remarks.append(Remark.TURNED)
    return ImageOps.exif_transpose(source)


def _zero_is_black(source: Any) -> bool:
    """Whether 0 is black in an opened file, not white."""
    return source.format != "TIFF" or bool(source.tag_v2.get(TIFF_PHOTOMETRY) != WHITE_IS_0)


def _in_8_bits(picture: Any, source_format: str | None, zero_is_black: bool, remarks: list[Remark]) -> Any:
    """A picture of at most 8 bits a channel. Raises UnknownValues where the range of its values is not known."""
    if picture.mode == "F":
        values = np.asarray(picture)
        if not (values.min() >= 0 and values.max() <= 1):  # false for NaN too
            raise UnknownValues(
                f"holds floats from {np.nanmin(values):g} to {np.nanmax(values):g}"
                f"{' and NaN' if np.isnan(values).any() else ''}; save it as 8 or 16 bits, or scale it to 0 … 1"
            )
        remarks.append(Remark.FLOAT)
        return Image.fromarray(np.rint((values if zero_is_black else 1 - values) * 255).astype(np.uint8))
    if picture.mode not in WIDE_GREY:
        return picture
    values = np.asarray(picture).astype(np.int64)
    if picture.mode == "I" and source_format not in SCALED_BY_PILLOW:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > FULL_RANGE or 0 < high <= 255:
            raise UnknownValues(f"holds whole numbers of 32 bits from {low} to {high}; save it as 8 or 16 bits")
    grey = np.rint((values if zero_is_black else FULL_RANGE - values) * (255 / FULL_RANGE)).astype(np.uint8)
    remarks.append(Remark.WIDE)
    hidden = picture.info.get("transparency")
    if hidden is None:
        return Image.fromarray(grey)
    alpha = np.where(values == hidden, 0, 255).astype(np.uint8)
    return Image.fromarray(np.stack([grey, alpha], 2))


def _opaque(picture: Any, remarks: list[Remark]) -> Any:
    """The picture on white. One without transparency stays as it is."""
    if picture.mode == "LAB":
        return picture.convert("RGB")  # the only mode that does not become grey in one step
    if not picture.has_transparency_data:
        return picture
    layered = picture.convert("RGBA")
    if layered.getextrema()[3][0] == 255:
        return layered.convert("RGB")
    remarks.append(Remark.TRANSPARENT)
    return Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered).convert("RGB")
