"""The contact sheet: a row for each class, pictures as they were read."""

from __future__ import annotations

import numpy as np

from neurogen.report.captions import caption, without_signs
from neurogen.report.contact_sheet import (
    GAP,
    GROUND,
    MARGIN,
    MOST_CLASSES,
    PICTURES_PER_CLASS,
    TILE,
    contact_sheet,
    evenly,
    tile,
)


def test_every_class_has_its_pictures_in_its_row() -> None:
    images = np.zeros((6, 3, 8, 8), dtype=np.uint8)
    images[:, 0] = np.array([10, 20, 30, 40, 50, 60])[:, None, None]
    sheet = contact_sheet(images, np.array([1, 0, 1, 0, 1, 1]), ["cat", "dog"])
    left = sheet.width - MARGIN - PICTURES_PER_CLASS * (TILE + GAP) + GAP
    centres = [
        [(left + x * (TILE + GAP) + TILE // 2, MARGIN + y * (TILE + GAP) + 32) for x in range(5)] for y in (0, 1)
    ]
    reds = [[sheet.getpixel(place)[0] for place in row] for row in centres]
    ground = int(GROUND[1:3], 16)
    assert reds == [[20, 40, ground, ground, ground], [10, 30, 50, 60, ground]]


def test_many_classes_and_pictures_are_cut() -> None:
    images, labels = np.zeros((200, 1, 4, 4), dtype=np.uint8), np.arange(200) % 40
    sheet = contact_sheet(images, labels, [f"a class with quite a long name, {label}" * 3 for label in range(40)])
    assert sheet.height == 2 * MARGIN + MOST_CLASSES * (TILE + GAP) - GAP
    assert sheet.width < 1200
    assert evenly(np.arange(100)).tolist() == [0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 90, 99]
    assert evenly(np.arange(0)).tolist() == []


def test_small_images_keep_their_pixels_and_large_ones_their_shape() -> None:
    small = np.asarray(tile(np.array([[[0, 255], [255, 0]]], dtype=np.uint8)))
    assert small[0, 0].tolist() == [0, 0, 0]
    assert small[31, 32].tolist() == [255, 255, 255]
    wide = np.asarray(tile(np.zeros((3, 100, 200), dtype=np.uint8)))
    assert wide.shape == (TILE, TILE, 3)
    assert (wide[TILE // 4 + 2 : -TILE // 4 - 2] == 0).all()
    assert (wide[: TILE // 4 - 2] > 0).all()


def test_names_that_the_font_cannot_write() -> None:
    assert without_signs(["Köter", "кот", "猫"]) == ["猫"]
    assert [caption(name, number) for number, name in enumerate(("Köter", "猫"), 1)] == ["Köter", "class 2"]
