"""What `make bench` measures: rows, each beside its counterpart.

in:  rows of one part of the benchmark
out: a table on the terminal, and OUT/NAME.json (bench-results/NAME.json): the rows, and what they were measured on
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.setting import DEVICE
from neurogen.environment import environment
from neurogen.training.runtime import runtime_here


@dataclass(frozen=True)
class Row:
    """A piece of work, and what it is compared with."""

    what: str
    seconds: float
    against: str
    against_seconds: float
    n: int  # measurements of both
    ratio: float

    @staticmethod
    def of(what: str, seconds: float, against: str, against_seconds: float, n: int) -> Row:
        """With the ratio of these seconds."""
        return Row(what, seconds, against, against_seconds, n, seconds / against_seconds)

    @staticmethod
    def of_pairs(what: str, against: str, pairs: Sequence[tuple[float, float]]) -> Row:
        """From measurements in turn: both medians, and the median of the ratios."""
        seconds, against_seconds = (statistics.median(column) for column in zip(*pairs, strict=True))
        return Row(what, seconds, against, against_seconds, len(pairs), statistics.median(a / b for a, b in pairs))


def publish(name: str, rows: Sequence[Row], num_threads: int = 0) -> None:
    """Print the rows of `python -m benchmarks.NAME`, and write them; `num_threads` as the config has it."""
    runtime = runtime_here(DEVICE, num_threads)
    table = Table(title=f"python -m benchmarks.{name}, {DEVICE}, {runtime.num_threads} threads", title_justify="left")
    for column in ("what", "s", "against", "s", "ratio", "n"):
        table.add_column(column)
    for row in rows:
        times = (f"{value:.3g}" for value in (row.seconds, row.against_seconds, row.ratio))
        seconds, against_seconds, ratio = times
        table.add_row(row.what, seconds, row.against, against_seconds, ratio, str(row.n))
    Console().print(table)
    about = environment(runtime.device, runtime.dtype)
    del about["host"]
    content = {**about, "num_threads": runtime.num_threads, "rows": [asdict(row) for row in rows]}
    folder = Path(os.environ.get("OUT", "bench-results"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
