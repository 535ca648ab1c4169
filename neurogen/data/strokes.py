"""Strokes of written characters → grey pictures, written by a shaky hand and normalised as MNIST's are.

in:  the strokes of a character, curves in the plane; an rng
out: uint8 [28, 28], ink on black: its longer side has 20 pixels, its centre of mass is in the middle

KanjiVG (the package kanjivg) holds about 7,000 characters as strokes in SVG.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from neurogen.errors import UserError

SIDE, INK_SIDE = 28, 20  # pixels of a picture, and of the longer side of what is written in it
SCALE = 4  # a picture is drawn so many times as large, and then reduced
POINTS_OF_A_CURVE = 8
THINNEST_PEN, THICKEST_PEN = 1.5, 4.0  # pixels of a picture
FEW_STROKES = 3  # of more strokes a thick pen would make a blot
SVG_PATH = "{http://www.w3.org/2000/svg}path"
PACKAGE = "kanjivg"

Stroke = NDArray[np.float64]  # [points, 2], x to the right and y down


def kanjivg() -> Distribution:
    """The package, whose version tells its content. Raises UserError where it is missing."""
    try:
        return distribution(PACKAGE)
    except PackageNotFoundError as error:
        raise UserError(f"glyphs are written from the package {PACKAGE}; pip install 'neurogen[glyphs]'") from error


def read_strokes(path: Path) -> list[Stroke]:
    """The strokes in a file of KanjiVG, in the square from −1 to 1."""
    from fontTools.pens.recordingPen import RecordingPen
    from fontTools.svgLib.path import parse_path

    root = ElementTree.parse(path).getroot()
    side = float(root.attrib["width"])
    strokes = []
    for element in root.iter(SVG_PATH):
        pen = RecordingPen()
        parse_path(element.attrib["d"], pen)
        strokes.append(2 * _points(pen.value) / side - 1)
    return strokes


def _points(commands: Sequence[tuple[str, tuple[tuple[float, float], ...]]]) -> Stroke:
    """The points of lines and cubic curves."""
    t = np.linspace(0, 1, POINTS_OF_A_CURVE + 1)[1:, None]
    points: list[Stroke] = []
    for name, ends in commands:
        if name == "endPath":
            continue
        corners = np.array(ends)
        if name == "curveTo":
            a, (b, c, d) = points[-1][-1], corners
            corners = (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
        points.append(corners)
    return np.concatenate(points)


def written(strokes: Sequence[Stroke], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A picture of a character: turned, slanted, stretched and bent at random, with a pen of random width."""
    widest = THINNEST_PEN + (THICKEST_PEN - THINNEST_PEN) * min(1, FEW_STROKES / len(strokes))
    return _drawn(_bent(strokes, rng), rng.uniform(THINNEST_PEN, widest))


def _bent(strokes: Sequence[Stroke], rng: np.random.Generator) -> list[Stroke]:
    """The strokes as a hand moves: each has its own error, and all share a smooth one."""
    angle, slant, stretch = rng.normal(0, 0.15), rng.normal(0, 0.2), np.exp(rng.normal(0, 0.12))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.array([[stretch, slant], [0, 1 / stretch]])
    waves, phases, height = rng.normal(0, 2, (4, 2)), rng.uniform(0, 2 * np.pi, 4), rng.normal(0, 0.05, (4, 2))
    shift, tilt, bow = rng.normal(0, np.array([0.04, 0.05, 0.04])[:, None, None], (3, len(strokes), 2))
    lengths = [len(stroke) for stroke in strokes]
    along = np.concatenate([np.linspace(-1, 1, length) for length in lengths])[:, None]
    shift, tilt, bow = (np.repeat(error, lengths, axis=0) for error in (shift, tilt, bow))
    points = np.concatenate(strokes)
    error = shift + tilt * along + bow * (1 - along**2)
    bent = (points + error + np.sin(points @ waves.T + phases) @ height) @ linear.T
    return np.split(bent, np.cumsum(lengths)[:-1])


def _drawn(strokes: Sequence[Stroke], width: float) -> NDArray[np.uint8]:
    """A picture of strokes; `width` is that of the pen in pixels of the picture."""
    points = np.concatenate(strokes)
    low, high = points.min(axis=0), points.max(axis=0)
    factor = SCALE * (INK_SIDE - width) / max((high - low).max(), 1e-3)
    middle, radius = SCALE * SIDE / 2, SCALE * width / 2
    canvas = Image.new("L", (SCALE * SIDE, SCALE * SIDE))
    pen = ImageDraw.Draw(canvas)
    for stroke in strokes:
        placed = ((stroke - (low + high) / 2) * factor + middle).ravel().tolist()
        pen.line(placed, fill=255, width=round(2 * radius))
        for x, y in (placed[:2], placed[-2:]):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    picture = np.asarray(canvas.reduce(SCALE))
    offsets = [round((SIDE - 1) / 2 - np.arange(SIDE) @ ink / ink.sum()) for ink in (picture.sum(1), picture.sum(0))]
    return np.roll(picture, offsets, axis=(0, 1))
