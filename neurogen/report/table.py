"""A table of text, and how numbers are written in it.

in:  figures
out: cells
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

MISSING = "–"


@dataclass(frozen=True)
class Table:
    """Text in cells; the first columns name a row, the others hold its values."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""
    num_names: int = 1  # columns that name a row

    @property
    def alignment(self) -> tuple[str, ...] | None:
        """Of each column, for tabulate; None where there are no rows, for which it takes none."""
        values = len(self.header) - self.num_names
        return (*["left"] * self.num_names, *["right"] * values) if self.rows else None


def duration(seconds: float) -> str:
    """In seconds, minutes or hours, with two digits or all before the point."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.{1 if seconds < 10 * size else 0}f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def grouped(count: int) -> str:
    """A whole number with its thousands set apart."""
    return f"{count:,}"


def two_digits(value: float) -> str:
    """The value with two digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def spread(mean: float | None, std: float | None) -> str:
    """Mean ± deviation, two decimals."""
    if mean is None:
        return MISSING
    return f"{mean:.2f}" + ("" if std is None else f" ± {std:.2f}")


def fixed(value: float | None, digits: int) -> str:
    """The value with so many decimals."""
    return MISSING if value is None else f"{value:.{digits}f}"


def percent(fraction: float | None) -> str:
    """A fraction in percent, two decimals."""
    return MISSING if fraction is None else f"{100 * fraction:.2f} %"


def rounded(digits: int, values: Sequence[float]) -> float | None:
    """Their mean; None where there are none."""
    return round(statistics.fmean(values), digits) if values else None
