"""A contact sheet: some pictures of every class side by side, as a loader reads them.

in:  images as bytes [images, channels, height, width], their labels, the names of the classes
out: a picture with a row for each class

Small images are enlarged by whole factors, so that their pixels can be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from neurogen.report.captions import FONT, caption

MOST_CLASSES = 24  # rows
PICTURES_PER_CLASS = 12
TILE, GAP, MARGIN = 64, 4, 12  # pixels
WIDEST_LABEL = 260
FONT_SIZE = 14
INK, GROUND = "#222222", "#e8e8e8"  # no picture of a class is likely to have this ground

Images = UInt8[NDArray[np.uint8], "images channels height width"]


def contact_sheet(images: Images, labels: Int64[NDArray[np.int64], " images"], class_names: Sequence[str]) -> Any:
    """The sheet, as a picture of Pillow, of the first MOST_CLASSES classes."""
    font = ImageFont.truetype(str(FONT), FONT_SIZE)
    names = list(class_names)[:MOST_CLASSES]
    captions = [shortened(caption(name, label + 1), font) for label, name in enumerate(names)]
    left = 2 * MARGIN + round(max(map(font.getlength, captions)))
    size = left + PICTURES_PER_CLASS * (TILE + GAP) - GAP + MARGIN, 2 * MARGIN + len(names) * (TILE + GAP) - GAP
    sheet = Image.new("RGB", size, GROUND)
    draw = ImageDraw.Draw(sheet)
    for label, text in enumerate(captions):
        top = MARGIN + label * (TILE + GAP)
        draw.text((MARGIN, top + TILE // 2), text, INK, font, anchor="lm")
        for column, index in enumerate(evenly(np.flatnonzero(labels == label))):
            sheet.paste(tile(images[index]), (left + column * (TILE + GAP), top))
    return sheet


def evenly(members: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most PICTURES_PER_CLASS of the members, from the first to the last."""
    places = np.linspace(0, len(members) - 1, min(len(members), PICTURES_PER_CLASS))
    return members[np.rint(places).astype(np.int64)]


def tile(pixels: UInt8[NDArray[np.uint8], "channels height width"]) -> Any:
    """An image in the middle of a square of TILE pixels. Of other numbers of channels than 3 the first is shown."""
    is_colour = len(pixels) == 3
    picture = Image.fromarray(pixels.transpose(1, 2, 0) if is_colour else pixels[0]).convert("RGB")
    longest = max(picture.size)
    if longest <= TILE:
        factor = TILE // longest
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    else:
        picture.thumbnail((TILE, TILE))
    square = Image.new("RGB", (TILE, TILE), GROUND)
    square.paste(picture, ((TILE - picture.width) // 2, (TILE - picture.height) // 2))
    return square


def shortened(text: str, font: Any) -> str:
    """The text, cut where the column of names ends."""
    if font.getlength(text) <= WIDEST_LABEL:
        return text
    while font.getlength(f"{text}…") > WIDEST_LABEL:
        text = text[:-1]
    return f"{text}…"
