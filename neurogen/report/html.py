"""report.html: all that a run or a study gave, on one page; and what a notebook shows of it.

in:  the rows of a study, its pictures, the evaluations of every row
out: one HTML file with everything in it, which works offline; its links lead to files beside it
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from neurogen import store
from neurogen.config.schema import written
from neurogen.data.report import FILE, DataReport
from neurogen.report import study_tables, tables
from neurogen.report.cells import settings_of, varied_keys
from neurogen.report.formats import slug
from neurogen.report.table import MISSING, Table, spread
from neurogen.report.tables import LABELS
from neurogen.study.costs import Ledger
from neurogen.study.pipeline import Aggregate, Evaluate
from neurogen.study.results import Population, from_json
from neurogen.study.rows import RESULTS_FILE, Row

if TYPE_CHECKING:
    from jinja2 import Template

    from neurogen.report.figures import Picture, StudyPictures

NAME = "report.html"
RESULTS = ("results.csv", RESULTS_FILE, "results.md", "results.tex")
MAIN_PLOTS = ("comparison.png", "learning.png")
PLUS_MINUS, PERCENT = " ± ", " %"


@dataclass(frozen=True)
class Tile:
    """A figure that a reader sees first."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Section:
    """A row with all that the page shows of it."""

    anchor: str
    label: str
    row: Row
    pictures: Mapping[str, Picture]
    links: Mapping[str, str]

    @property
    def tables(self) -> dict[str, Table]:
        """By their titles."""
        return {table.title: table for table in tables.of_row(self.row)}


def write_report(
    study: Aggregate,
    rows: Sequence[Row],
    cells: Sequence[Sequence[Evaluate]],
    pictures: StudyPictures,
    missing: Sequence[str],
    ledger: Ledger | None,
) -> None:
    """Write report.html into the study's folder. `missing` says which evaluations are missing, and why.

    Raises UserError where the folder cannot be written.
    """
    labels = labels_of(rows)
    page = _template().render(
        name=study.name,
        rows=rows,
        sections=[
            Section(f"row-{index}", label, row, of_row, links_of(row, evaluations, study))
            for index, (label, row, of_row, evaluations) in enumerate(
                zip(labels, rows, pictures.of_rows, cells, strict=True)
            )
        ],
        summary=study_tables.of_study(rows),
        settings=settings(labels, cells),
        data=study_tables.data(reports) if (reports := data_reports(cells)) else None,
        costs=study_tables.costs(ledger) if ledger is not None else None,
        pictures=pictures.of_study,
        num_drawn=sum(bool(of_row) for of_row in pictures.of_rows),
        tiles=tiles(rows),
        missing=missing,
        files=[name for name in RESULTS if (study.folder / name).exists()],
        generated=LABELS[Population.GENERATED],
        heading=tables.heading,
        about=tables.summary,
    )
    store.write_text(study.folder / NAME, page)


def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(
        loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"data_uri": data_uri, "href": quote}
    environment.filters |= {"with_units_above": with_units_above, "spread_columns": spread_columns}
    return environment.get_template("report.html")


def data_uri(png: bytes) -> str:
    """A picture as a part of the page."""
    return f"data:image/png;base64,{b64encode(png).decode()}"


def with_units_above(table: Table) -> Table:
    """The per cent signs of a column in its head instead of in every cell."""
    columns = list(zip(*table.rows, strict=True))
    units = [PERCENT if all(text.endswith(PERCENT) for text in column) else "" for column in columns]
    header = tuple(f"{name} ({unit.strip()})" if unit else name for name, unit in zip(table.header, units, strict=True))
    columns = [tuple(text.removesuffix(unit) for text in column) for column, unit in zip(columns, units, strict=True)]
    return replace(table, header=header, rows=list(zip(*columns, strict=True)))


def spread_columns(table: Table) -> set[int]:
    """The columns with deviations, in which all values are aligned at the point."""
    return {index for cells in table.rows for index, text in enumerate(cells) if PLUS_MINUS in text}


def labels_of(rows: Sequence[Row]) -> list[str]:
    """What tells a row from the others; of a single row, or where nothing does, dataset and target."""
    labels = study_tables.labels_of(study_tables.with_short_settings(rows))
    return [label or f"{row.dataset} · {row.target}" for label, row in zip(labels, rows, strict=True)]


def tiles(rows: Sequence[Row]) -> list[Tile]:
    """What the page begins with: of one row its accuracies, of several how they differ."""
    if len(rows) > 1:
        return _tiles_of_study(rows)
    (row,) = rows
    if row.difference is None:
        return []
    generated, classical = (
        f"{spread(mean, std)} %"
        for mean, std in ((row.generated_mean, row.generated_std), (row.classical_mean, row.classical_std))
    )
    counted = "lists of classes" if row.naming else "networks"
    return [
        Tile("generated", generated, f"{row.n_ok} {counted}"),
        Tile("classical training", classical, f"{row.n_classical} {counted}"),
        Tile("difference", f"{row.difference:+.2f}", "points, generated − classical"),
        Tile("zoo mean network", f"{spread(row.zoo_mean_network, None)} %", "what stage 1 aims at"),
    ]


def _tiles_of_study(rows: Sequence[Row]) -> list[Tile]:
    measured = [row for row in rows if row.populations]
    gaps = [row.difference for row in measured if row.difference is not None]
    seeds = sorted({row.n_seeds for row in measured})
    span = f"{min(gaps):+.2f} to {max(gaps):+.2f}" if gaps else MISSING
    return [
        Tile("difference", span, "points, generated − classical"),
        Tile("rows", f"{len(measured)} of {len(rows)}", "are measured"),
        Tile("seeds", " to ".join(map(str, dict.fromkeys((*seeds[:1], *seeds[-1:])))) or MISSING, "per row"),
        Tile("time", f"{tables.minutes_of(rows):.0f} min", "all steps together"),
    ]


def data_reports(cells: Sequence[Sequence[Evaluate]]) -> list[DataReport]:
    """What was read of each dataset, as far as the steps noted it."""
    paths = [evaluation.classical.folder / FILE for cell in cells for evaluation in cell]
    reports = [from_json(DataReport, store.read_json(path), path) for path in paths if path.exists()]
    return list(dict.fromkeys(reports))


def settings(labels: Sequence[str], cells: Sequence[Sequence[Evaluate]]) -> Table:
    """The settings in which rows differ, a column per row; of a single row all its settings."""
    values = [settings_of(evaluations[0]) for evaluations in cells]
    is_single = len(values) == 1
    keys = list(values[0]) if is_single else varied_keys(values)
    seeds = [", ".join(str(evaluation.seed) for evaluation in evaluations) for evaluations in cells]
    lines = [("seed", *seeds), *((key, *(written(point.get(key)) for point in values)) for key in keys)]
    return Table("settings", ("setting", *(["value"] if is_single else labels)), lines)


def links_of(row: Row, evaluations: Sequence[Evaluate], study: Aggregate) -> dict[str, str]:
    """Links from the study's folder to the files of a row, as far as they are there."""
    paths = {"these tables as Markdown": study.folder / f"report-{slug(row)}.md"}
    for evaluation in evaluations:
        seed = f", seed {evaluation.seed}" if len(evaluations) > 1 else ""
        paths[f"generated networks{seed}"] = evaluation.folder
        paths[f"generator{seed}"] = evaluation.tune.folder
        paths[f"classical networks{seed}"] = evaluation.classical.folder
    return {name: quote(os.path.relpath(path, study.folder)) for name, path in paths.items() if path.exists()}


def table_html(rows: Sequence[Row]) -> str:
    """The table that the terminal shows, as plain HTML: of one row its networks, of several the summary."""
    from tabulate import tabulate

    is_single = len(rows) == 1 and bool(rows[0].populations)
    table = tables.networks(rows[0]) if is_single else study_tables.of_study(rows)
    return str(tabulate(table.rows, table.header, tablefmt="html", disable_numparse=True, colalign=table.alignment))


def main_plot(folder: Path) -> bytes | None:
    """The PNG that says most of a finished study: all rows side by side, or the learning curves of one row."""
    return next((path.read_bytes() for path in (folder / name for name in MAIN_PLOTS) if path.exists()), None)
