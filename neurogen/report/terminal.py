"""What a person sees at the end of a run: the tables, and where everything is.

in:  the finished files of a study
out: text on the terminal

Needs no torch, so that a finished run is shown at once.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import rich.table
from rich.console import Console
from rich.measure import Measurement

from neurogen import store
from neurogen.report import formats, html, study_tables, tables
from neurogen.report.table import Table, fixed
from neurogen.report.tables import LABELS
from neurogen.study import costs
from neurogen.study.costs import Ledger
from neurogen.study.pipeline import Aggregate
from neurogen.study.results import Population, from_json
from neurogen.study.rows import Row

WIDTH_OF_LOGS = 200
NARROWEST = 40  # columns; rich cannot draw our tables with fewer than some 15


def show(last: Aggregate) -> None:
    """Print the tables of a finished study and the places of its files. Raises UserError where they cannot be read."""
    console = console_here()
    _show_tables(last.folder, last.name, console)
    places = []
    for evaluation in last.evaluations if len(last.evaluations) == 1 else []:
        places += [("networks", evaluation.folder / "network-*.safetensors"), ("generator", evaluation.tune.folder)]
    _show_places(last.folder, places, last.root, console)


def show_as_made(folder: Path) -> None:
    """The same of the files in a study's folder alone, ROOT/sweeps/NAME, without the steps that they were made of."""
    console = console_here()
    _show_tables(folder, folder.resolve().name, console)
    _show_places(folder, [], str(folder.resolve().parent.parent), console)


def _show_tables(folder: Path, name: str, console: Console) -> None:
    rows = formats.read_rows(folder)
    if len(rows) == 1 and rows[0].n_seeds > 0:
        _show_row(rows[0], console)
    else:
        _show_study(rows, name, console)
    if (folder / costs.FILE).exists():
        show_costs(from_json(Ledger, store.read_json(folder / costs.FILE), folder / costs.FILE))


def console_here() -> Console:
    """As wide as the window, or as a log; at least NARROWEST."""
    is_seen = sys.stdout.isatty() or "COLUMNS" in os.environ
    return new_console(None if is_seen else WIDTH_OF_LOGS)


def new_console(width: int | None = None) -> Console:
    """Of this width; None: as wide as the window. Without markup, since paths and names may have brackets in them."""
    console = Console(highlight=False, soft_wrap=True, markup=False, width=width)
    if console.width < NARROWEST:
        console.width = NARROWEST
    return console


def _show_row(row: Row, console: Console) -> None:
    for table in tables.of_row(row)[: 2 + bool(row.naming) + bool(row.few_shot)]:
        console.print()
        console.print(rich_table(table, tables.heading(row), bold=LABELS[Population.GENERATED]))
        console.print(table.note, style="dim")
    console.print(f"\nratio generated / classical {fixed(row.ratio, 3)}; {tables.summary(row)}\n")


def _show_study(rows: Sequence[Row], name: str, console: Console) -> None:
    whole = study_tables.of_study(rows)
    part = _fitting(whole, console)
    console.print()
    console.print(rich_table(part, name))
    console.print(whole.note, style="dim")
    if len(part.header) < len(whole.header):
        console.print(f"here without {', '.join(whole.header[len(part.header) :])}: this window is narrow")
    console.print()


def _show_places(folder: Path, more: Sequence[tuple[str, Path]], root: str, console: Console) -> None:
    places = [("table", folder / "results.csv"), ("in Markdown", folder / "report-*.md"), ("plots", folder / "*.png")]
    for label, path in [*places, *more]:
        console.print(f"{label:12} {path}")
    console.print(f"{'TensorBoard':12} {shlex.join([tensorboard(), '--logdir', root])}")
    console.print(f"{'report':12} {folder / html.NAME}")


def _fitting(table: Table, console: Console) -> Table:
    """The first columns, as many as fit into the window, but at least those up to `generated`."""
    while table.header[-1] != "generated" and _width(table, console) > console.width:
        table = replace(table, header=table.header[:-1], rows=[cells[:-1] for cells in table.rows])
    return table


def _width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(max_width=1000), rich_table(table, "")).maximum


def rich_table(table: Table, title: str, bold: str = "") -> rich.table.Table:
    """For the terminal; the row that begins with `bold` stands out."""
    drawn = rich.table.Table(title=title, title_justify="left", min_width=len(title) + 4)
    for column, name in enumerate(table.header):
        drawn.add_column(name, justify="left" if column < table.num_names else "right")
    for cells in table.rows:
        drawn.add_row(*cells, style="bold" if cells[0] == bold else None)
    return drawn


def tensorboard() -> str:
    """The command as it can be typed here: a virtual environment need not be active."""
    if shutil.which("tensorboard"):
        return "tensorboard"
    beside = Path(sys.executable).parent / "tensorboard"
    if not beside.exists():
        return "tensorboard"
    here = Path.cwd()
    return str(beside.relative_to(here) if beside.is_relative_to(here) else beside)


def show_costs(ledger: Ledger) -> None:
    """Print what the steps of a study took and will take."""
    table = study_tables.costs(ledger)
    console = console_here()
    console.print(rich_table(table, "time of all steps"))
    console.print(table.note, style="dim")
