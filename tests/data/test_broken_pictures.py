"""A picture file that is broken, empty, damaged or a bomb is refused by name, whatever Pillow raises for it."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neurogen.data.pictures import Picture, read_picture
from neurogen.errors import UserError


def read(path: Path) -> Picture:
    """As the loaders do."""
    return read_picture(path, 3, (2, 2))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("side", [10_000, 20_000])  # of the former Pillow only warns
def test_a_decompression_bomb_is_named(tmp_path: Path, side: int) -> None:
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((side // 8 + 1) * side))
    path = tmp_path / "scan.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b""))
    with pytest.raises(UserError, match=rf"scan\.png is larger than pictures should be \(.*{side**2} pixels"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff"])
def test_no_picture_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.png is no readable picture \(.+\); repair or remove it"):
        read(tmp_path / "x.png")


Damage = Callable[[bytes, random.Random], bytes]


def cut(good: bytes, rng: random.Random) -> bytes:
    return good[: rng.randrange(1, len(good))]


def flipped(good: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(good))
    return good[:place] + bytes([good[place] ^ 1 << rng.randrange(8)]) + good[place + 1 :]


def overwritten(good: bytes, rng: random.Random) -> bytes:
    bad = bytearray(good)
    for _ in range(8):
        bad[rng.randrange(min(120, len(bad)))] = rng.randrange(256)
    return bytes(bad)


def shortened(good: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(good))
    return good[:place] + good[place + rng.randrange(1, 12) :]


KINDS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {},
    "GIF": {},
    "BMP": {},
    "WEBP": {},
    "TIFF": {},
    "TIFF lzw": {"compression": "tiff_lzw"},
    "PPM": {},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", [cut, flipped, overwritten, shortened])
def test_broken_pictures_end_in_one_line(tmp_path: Path, kind: str, damage: Damage) -> None:
    """Whatever Pillow raises for it; a damaged picture that can still be read is read."""
    rng = random.Random(f"{kind} {damage.__name__}")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind.split()[0], **KINDS[kind])
    path = tmp_path / "x.png"
    refused = 0
    for _ in range(40):
        path.write_bytes(damage(file.getvalue(), rng))
        try:
            assert read(path).pixels.shape == (3, 2, 2)
        except UserError as error:
            assert str(error).startswith(str(path))  # noqa: PT017
            refused += 1
    assert refused or damage is flipped


LIMITED = """
import re, resource, sys
from pathlib import Path
from neurogen.data.pictures import read_picture
from neurogen.errors import UserError

held = int(re.search(r"VmData:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (held + 150 * 2**20,) * 2)
try:
    read_picture(sys.argv[1], 1, (8, 8))
except UserError as error:
    print(error)
"""


def test_a_picture_that_takes_more_memory_than_there_is_is_named(tmp_path: Path) -> None:
    """Also where its 16 bits have been read, and are scaled to 8."""
    path = tmp_path / "wide.png"
    Image.fromarray(np.full((6000, 6000), 500, np.uint16)).save(path)
    process = subprocess.run([sys.executable, "-c", LIMITED, path], check=True, capture_output=True, text=True)
    assert process.stdout.startswith(f"{path} takes more memory than there is; make it smaller")
