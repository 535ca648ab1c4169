"""What plots write beside samples: names of classes, as far as the font has their signs.

in:  the name of a class, and its number
out: a caption
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from neurogen.report.canvas import FT2Font, get_data_path

FONT = Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf")  # which matplotlib draws with, and brings along


def caption(class_name: str, number: int) -> str:
    """The name; `class NUMBER` where the font has no sign for a letter of it."""
    return f"class {number}" if without_signs([class_name]) else class_name


def without_signs(class_names: Sequence[str]) -> list[str]:
    """The names that the font cannot write."""
    return [name for name in class_names if not set(map(ord, name)) <= _signs()]


@cache
def _signs() -> frozenset[int]:
    return frozenset(FT2Font(str(FONT)).get_charmap())
