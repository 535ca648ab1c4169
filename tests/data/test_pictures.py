"""One picture file as pixels: every mode has the values that a viewer shows, or the file is refused by name."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from neurogen.data.pictures import Picture, Remark, read_all, read_picture
from neurogen.errors import UserError

WIDE = np.array([[0, 30000], [257, 65535]], dtype=np.uint16)
WIDE_IN_8 = [[0, 117], [1, 255]]  # 30000 / 65535 · 255 = 116.7


def written(folder: Path, image: Any, suffix: str, **options: Any) -> Path:
    """The file of a picture."""
    path = folder / f"picture{suffix}"
    image.save(path, **options)
    return path


def read(path: Path, channels: int = 3, size: tuple[int, int] = (2, 2)) -> Picture:
    """As the loaders do."""
    return read_picture(path, channels, size)


@pytest.mark.parametrize(
    ("suffix", "mode"), [(".png", "I;16"), (".tif", "I;16"), (".tif", "I;16B"), (".tif", "I"), (".pgm", "I")]
)
def test_grey_of_16_bits_is_scaled_by_its_full_range(tmp_path: Path, suffix: str, mode: str) -> None:
    kinds = {"I;16": "<u2", "I;16B": ">u2", "I": np.int32}
    image = Image.frombytes(mode, (2, 2), WIDE.astype(kinds[mode]).tobytes())
    picture = read(written(tmp_path, image, suffix))
    assert picture.pixels.tolist() == [WIDE_IN_8] * 3
    assert picture.remarks == (Remark.WIDE,)
    assert read(written(tmp_path, image, suffix), channels=1).pixels.tolist() == [WIDE_IN_8]


@pytest.mark.parametrize("values", [WIDE, WIDE / np.float32(65535)])
def test_a_tiff_may_say_that_0_is_white(tmp_path: Path, values: Any) -> None:
    """The tag of photometry, 262, says 1 where 0 is black, and 0 where 0 is white."""
    path = written(tmp_path, Image.fromarray(values), ".tif")
    tag = struct.pack("<HHI", 262, 3, 1)
    content = path.read_bytes()
    assert tag + b"\1" in content
    path.write_bytes(content.replace(tag + b"\1", tag + b"\0"))
    assert read(path, channels=1).pixels[0].tolist() == [[255, 138], [254, 0]]


def test_a_dark_picture_of_16_bits_stays_dark(tmp_path: Path) -> None:
    path = written(tmp_path, Image.fromarray(np.full((2, 2), 200, dtype=np.uint16)), ".png")
    assert read(path).pixels.max() == 1


def test_one_shade_of_16_bits_may_be_transparent(tmp_path: Path) -> None:
    picture = read(written(tmp_path, Image.fromarray(WIDE), ".png", transparency=30000), channels=1)
    assert picture.pixels.tolist() == [[[0, 255], [1, 255]]]
    assert picture.remarks == (Remark.WIDE, Remark.TRANSPARENT)


def test_floats_from_0_to_1_are_scaled(tmp_path: Path) -> None:
    values = np.array([[0, 0.5], [0.25, 1]], dtype=np.float32)
    picture = read(written(tmp_path, Image.fromarray(values), ".tif"), channels=1)
    assert picture.pixels.tolist() == [[[0, 128], [64, 255]]]  # numpy rounds 127.5 to the even number
    assert picture.remarks == (Remark.FLOAT,)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0.0, 255.0]], dtype=np.float32), r"picture\.tif holds floats from 0 to 255; save it as"),
        (np.array([[-0.5, 1.0]], dtype=np.float32), r"holds floats from -0\.5 to 1;"),
        (np.array([[np.nan, 1.0]], dtype=np.float32), r"holds floats from 1 to 1 and NaN;"),
        (np.array([[0, 70000]], dtype=np.int32), r"holds whole numbers of 32 bits from 0 to 70000;"),
        (np.array([[0, 200]], dtype=np.int32), r"holds whole numbers of 32 bits from 0 to 200;"),
        (np.array([[-1, 5000]], dtype=np.int32), r"holds whole numbers of 32 bits from -1 to 5000;"),
    ],
)
def test_values_without_a_known_range_are_refused(tmp_path: Path, values: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(written(tmp_path, Image.fromarray(values), ".tif"))


def _shades(mode: str, colours: list[Any]) -> Image.Image:
    """A row of pixels."""
    image = Image.new(mode, (len(colours), 1))
    image.putdata(colours)
    return image


def _palette(colours: list[int], pixels: list[int]) -> Image.Image:
    image = _shades("P", pixels)
    image.putpalette(colours)
    return image


@pytest.mark.parametrize(
    ("image", "suffix", "options", "expected"),
    [
        (_shades("RGBA", [(0, 0, 0, 0), (0, 0, 0, 255)]), ".png", {}, [(255, 255, 255), (0, 0, 0)]),
        (_shades("RGBA", [(0, 0, 0, 51), (200, 0, 0, 255)]), ".webp", {"lossless": True}, [(204,) * 3, (200, 0, 0)]),
        (_shades("LA", [(9, 0), (9, 255)]), ".png", {}, [(255,) * 3, (9,) * 3]),
        (_shades("L", [9, 7]), ".png", {"transparency": 7}, [(9,) * 3, (255,) * 3]),
        (_shades("1", [0, 1]), ".png", {"transparency": 0}, [(255,) * 3, (255,) * 3]),
        (_shades("RGB", [(1, 2, 3), (4, 5, 6)]), ".png", {"transparency": (4, 5, 6)}, [(1, 2, 3), (255,) * 3]),
        (_palette([0, 0, 0, 90, 80, 70], [0, 1]), ".png", {"transparency": 0}, [(255,) * 3, (90, 80, 70)]),
        (_palette([0, 0, 0, 90, 80, 70], [0, 1]), ".png", {"transparency": b"\x33\xff"}, [(204,) * 3, (90, 80, 70)]),
        (_palette([0, 0, 0, 90, 80, 70], [0, 1]), ".gif", {"transparency": 0}, [(255,) * 3, (90, 80, 70)]),
        (_shades("RGBA", [(0, 0, 0, 0), (9, 8, 7, 255)]), ".tif", {}, [(255,) * 3, (9, 8, 7)]),
    ],
)
def test_transparency_is_put_on_white(
    tmp_path: Path, image: Image.Image, suffix: str, options: dict[str, Any], expected: list[tuple[int, ...]]
) -> None:
    path = written(tmp_path, image, suffix, **options)
    picture = read(path, size=(1, 2))
    assert [tuple(colour) for colour in picture.pixels[:, 0].T.tolist()] == expected
    assert picture.remarks == (Remark.TRANSPARENT,)
    grey = _shades("RGB", expected).convert("L")
    assert read(path, channels=1, size=(1, 2)).pixels[0, 0].tolist() == list(grey.tobytes())


def test_transparency_goes_before_the_size_changes(tmp_path: Path) -> None:
    """A black stroke on nothing keeps its shape; resized first, the ground would be black too."""
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 8, 16))
    pixels = read(written(tmp_path, image, ".png"), size=(4, 4)).pixels
    assert pixels[:, :, 0].max() < 20
    assert pixels[:, :, 3].min() > 235


@pytest.mark.parametrize(
    ("image", "suffix", "expected"),
    [
        (_shades("1", [0, 1]), ".png", [(0,) * 3, (255,) * 3]),
        (_shades("1", [1, 0]), ".pbm", [(255,) * 3, (0,) * 3]),
        (_shades("L", [3, 200]), ".bmp", [(3,) * 3, (200,) * 3]),
        (_palette([9, 8, 7, 90, 80, 70], [1, 0]), ".png", [(90, 80, 70), (9, 8, 7)]),
        (_palette([9, 8, 7, 90, 80, 70], [1, 0]), ".bmp", [(90, 80, 70), (9, 8, 7)]),
        (_shades("CMYK", [(0, 0, 0, 0), (0, 0, 0, 255)]), ".tif", [(255,) * 3, (0,) * 3]),
        (_shades("RGBA", [(9, 8, 7, 255), (1, 2, 3, 255)]), ".png", [(9, 8, 7), (1, 2, 3)]),
        (_shades("LA", [(9, 255), (1, 255)]), ".png", [(9,) * 3, (1,) * 3]),
    ],
)
def test_every_mode_has_its_colours(
    tmp_path: Path, image: Image.Image, suffix: str, expected: list[tuple[int, ...]]
) -> None:
    picture = read(written(tmp_path, image, suffix), size=(1, 2))
    assert [tuple(colour) for colour in picture.pixels[:, 0].T.tolist()] == expected
    assert picture.remarks == ()


def test_a_cmyk_jpeg_is_not_inverted(tmp_path: Path) -> None:
    path = written(tmp_path, Image.new("CMYK", (8, 8), (0, 255, 255, 0)), ".jpg", quality=100)
    red, green, blue = read(path).pixels[:, 0, 0].tolist()
    assert red > 250
    assert max(green, blue) < 5


def test_lab_has_its_colour_and_grey(tmp_path: Path) -> None:
    path = written(tmp_path, Image.new("LAB", (2, 2), (255, 128, 128)), ".tif")
    assert read(path).pixels.min() > 250
    assert read(path, channels=1).pixels.min() > 250


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_a_picture(tmp_path: Path, orientation: int, suffix: str) -> None:
    """The stored pixels of every orientation, made of the same upright picture."""
    upright = np.zeros((16, 16, 3), dtype=np.uint8)
    upright[:8, :8], upright[:8, 8:] = 255, 128
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = written(tmp_path, Image.fromarray(np.ascontiguousarray(stored)), suffix, exif=exif)
    pixels = read(path, channels=1, size=(16, 16)).pixels[0]
    corners = [pixels[2, 2], pixels[2, 13], pixels[13, 2], pixels[13, 13]]
    assert np.allclose(np.array(corners, dtype=int), [255, 128, 0, 0], atol=6)


@pytest.mark.parametrize("suffix", [".gif", ".tif", ".png", ".webp"])
def test_of_several_frames_the_first_is_read(tmp_path: Path, suffix: str) -> None:
    first, second = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    options = {"lossless": True} if suffix == ".webp" else {}
    picture = read(written(tmp_path, first, suffix, save_all=True, append_images=[second], **options))
    assert picture.pixels[:, 0, 0].tolist() == [255, 0, 0]
    assert picture.remarks == (Remark.FRAMES,)


def test_notes_count_what_was_changed(tmp_path: Path) -> None:
    paths = []
    for index in range(5):
        folder = tmp_path / str(index)
        folder.mkdir()
        image = Image.fromarray(WIDE) if index < 2 else Image.new("RGBA" if index == 2 else "RGB", (2, 2))
        paths.append(written(folder, image, ".png"))
    pixels, notes = read_all(paths, 1, (2, 2))
    assert pixels[:, 0, 0, 1].tolist() == [117, 117, 255, 0, 0]
    assert notes == ("pictures: 1 transparent, put on white, 2 grey of 16 bits, scaled to 8",)


def test_the_content_counts_not_the_ending(tmp_path: Path) -> None:
    path = written(tmp_path, Image.new("RGB", (2, 2), (9, 8, 7)), ".bmp")
    assert read(path.rename(tmp_path / "picture.png")).pixels[:, 0, 0].tolist() == [9, 8, 7]


def test_a_page_description_is_no_picture(tmp_path: Path) -> None:
    """Pillow would start another program to draw it."""
    path = written(tmp_path, Image.new("RGB", (2, 2)), ".eps")
    with pytest.raises(UserError, match=r"cannot identify image file"):
        read(path.rename(tmp_path / "picture.png"))
