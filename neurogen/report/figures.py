"""What all plots share: colours, the two layouts, and the files and pictures that are made of a figure.

in:  a function that draws a figure for a screen
out: NAME.png and NAME.pdf in the study's folder; the picture for report.html, once for a wide and once for a narrow
     screen
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from neurogen import store
from neurogen.report.canvas import Axes, Figure, LogFormatter, rc_context

UNDATED = {"CreationDate": None}  # the same results give the same file
CLASSICAL, GENERATED, ZOO, INJECT = "#666666", "#d1495b", "#30638e", "#c98a1b"
FONT_SIZE = 8  # points, of what is not set otherwise: also of legends
STYLE = {
    "font.size": FONT_SIZE,
    "axes.labelsize": 9,
    "axes.titlesize": 10,
    "figure.titlesize": 10,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # in names and settings a dollar is a dollar
}


@dataclass(frozen=True)
class Screen:
    """What a figure is drawn for."""

    width: float  # of the figure, in inches
    columns: int  # of panels
    dpi: int

    @property
    def is_narrow(self) -> bool:
        """Whether panels stand below each other."""
        return self.columns == 1

    def wrapped(self, label: str) -> str:
        """The label of an axis, or a title, on several lines where it is longer than there is room."""
        return textwrap.fill(label, 20 if self.is_narrow else 60)


WIDE = Screen(width=10, columns=2, dpi=130)
NARROW = Screen(width=3.7, columns=1, dpi=200)


def panels(
    screen: Screen, count: int, height: float, scale: int = 1, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels of this height in inches, in `scale` times as many columns as the screen has."""
    columns = scale * screen.columns
    num_rows = math.ceil(count / columns)
    figure = Figure(figsize=(screen.width, height * num_rows), layout="constrained")
    axes = list(figure.subplots(num_rows, columns, squeeze=False, sharey=sharey).flatten())
    for unused in axes[count:]:
        unused.set_visible(False)
    return figure, axes[:count]


class PlainLogFormatter(LogFormatter):
    """Values of a logarithmic axis as plain numbers; matplotlib's own are mathtext, which STYLE turns off."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Empty where matplotlib leaves a tick without a label."""
        return f"{x:g}" if super().__call__(x, pos) else ""


def log_scale(axes: Axes) -> None:
    """A logarithmic y axis."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(PlainLogFormatter())
    axes.yaxis.set_minor_formatter(PlainLogFormatter())


def show_image(axes: Axes, image: UInt8[Tensor, "channels height width"]) -> None:
    """Draw a sample. Of other numbers of channels than 3 the first is shown, as on a contact sheet."""
    if len(image) == 3:
        axes.imshow(image.permute(1, 2, 0).numpy())
    else:
        axes.imshow(image[0].numpy(), cmap="gray_r")
    axes.set_axis_off()


@dataclass(frozen=True)
class Picture:
    """A figure as report.html shows it, as PNG for both screens."""

    name: str  # of its files beside the report, without suffix
    wide: bytes
    narrow: bytes


@dataclass(frozen=True)
class StudyPictures:
    """Pictures by the name of the plot: of the study as a whole, and of each of its rows."""

    of_study: dict[str, Picture]
    of_rows: list[dict[str, Picture]]


def picture_of(draw: Callable[[Screen], Figure], path: Path) -> tuple[Picture, Figure]:
    """Write PATH.png and PATH.pdf. Returns the picture for the report, and the figure of the wide screen."""
    narrow = io.BytesIO()
    with rc_context(STYLE):
        figure = draw(WIDE)
        save(figure, path)
        draw(NARROW).savefig(narrow, format="png", dpi=NARROW.dpi)
    wide = path.with_name(f"{path.name}.png").read_bytes()
    return Picture(path.name, wide, narrow.getvalue()), figure


def save(figure: Figure, path: Path) -> None:
    """As PATH.png and PATH.pdf. Raises UserError where the folder cannot be written."""
    for suffix in (".png", ".pdf"):
        target = path.with_name(path.name + suffix)
        drawn = io.BytesIO()  # where a file cannot be written, matplotlib fails in ways of its own
        figure.savefig(drawn, format=suffix[1:], dpi=WIDE.dpi, metadata=UNDATED if suffix == ".pdf" else None)
        store.write_bytes(target, drawn.getvalue())
        figure.set_layout_engine("none")  # what is laid out stays in its place; doing it again takes as long as drawing
