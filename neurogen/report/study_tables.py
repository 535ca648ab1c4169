"""Tables of a study: all its rows beside each other, what was read of its data, what its steps cost.

in:  Rows as results.json holds them; reports of data, ledgers of costs
out: Tables of text, as those of a cell are (tables.py)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from neurogen.data.report import DataReport
from neurogen.report.table import MISSING, Table, duration, fixed, grouped, spread
from neurogen.report.tables import deviation, from_hub, minutes_of
from neurogen.study.costs import Ledger
from neurogen.study.rows import NAMES, Row

MOST_CLASSES = 30  # in a table of data with a line for each
LONGEST_SETTINGS = 60  # characters that tables and plots have room for


def data(reports: Sequence[DataReport]) -> Table:
    """Samples by split: of one dataset for each class, of several, or of one with many classes, for each dataset."""
    notes = [f"{report.name}: {note}." for report in reports for note in report.notes]
    if len(reports) == 1 and len(reports[0].class_names) <= MOST_CLASSES:
        (report,) = reports
        splits = (report.train, report.validation, report.test)
        counts = zip(*splits, strict=True)
        lines = [(name, *map(grouped, numbers)) for name, numbers in zip(report.class_names, counts, strict=True)]
        lines.append(("all classes", *(grouped(sum(split)) for split in splits)))
        return Table("data", ("class", "train", "validation", "test"), lines, " ".join(notes))
    lines = [
        (
            report.name,
            grouped(len(report.class_names)),
            *(grouped(sum(split)) for split in (report.train, report.validation, report.test)),
            f"{min(report.per_class):,} to {max(report.per_class):,}",
        )
        for report in reports
    ]
    header = ("dataset", "classes", "train", "validation", "test", "samples of a class")
    return Table("data", header, lines, " ".join(notes))


def costs(ledger: Ledger) -> Table:
    """What the steps of each kind took beside the estimate, and what is to come."""
    lines = []
    for kind in ledger.kinds:
        left = kind.num_steps - kind.num_done
        origins = {"like finished steps": kind.num_like, "estimate": left - kind.num_like}
        origin = ", ".join(f"{words} ({count})" for words, count in origins.items() if count)
        past = (duration(kind.took), duration(kind.estimated)) if kind.num_done else (MISSING, MISSING)
        to_come = (duration(kind.to_come), origin) if left else (MISSING, MISSING)
        lines.append((kind.kind, str(kind.num_steps), str(kind.num_done), *past, *to_come))
    header = ("step", "steps", "done", "took", "estimated", "to come", "source")
    note = (
        f"Estimates are for one {ledger.gpu}, at a utilisation that the config gpu assumes; a CPU takes far longer. "
        "Where a step like it is done under this root, a step to come is expected to take as long. Tables and plots "
        "are not counted."
    )
    if any(kind.num_done < kind.num_steps for kind in ledger.kinds):
        return Table("costs", header, lines, f"In all {duration(ledger.to_come)} to come. {note}")
    return Table("costs", header[:5], [cells[:5] for cells in lines], note)


def names_of(row: Row) -> dict[str, str]:
    """What tells the cell from others: dataset, target, backbone, recipe, settings."""
    return {name: getattr(row, name) for name in NAMES}


def with_short_settings(rows: Sequence[Row]) -> list[Row]:
    """The rows as tables and plots show them: `row N` for settings that are too long for either."""
    return [
        row if len(row.settings) <= LONGEST_SETTINGS else replace(row, settings=f"row {number}")
        for number, row in enumerate(rows, 1)
    ]


def labels_of(rows: Sequence[Row]) -> list[str]:
    """What tells a row from the others; nothing where nothing does."""
    names = varied_names(rows)
    return [" · ".join(filter(None, (getattr(row, name) for name in names))) for row in rows]


def varied_names(rows: Sequence[Row]) -> list[str]:
    """The names in which rows differ."""
    return [name for name in NAMES if len({getattr(row, name) for row in rows}) > 1]


def of_study(rows: Sequence[Row]) -> Table:
    """Like the paper's Table 1, with its own figures beside where it has any."""
    given, rows = rows, with_short_settings(rows)
    varied = varied_names(rows)
    columns = [name for name in NAMES if name in ("dataset", "target", *varied)]
    has_paper = any(row.paper_dataset for row in rows)
    header = (*columns, "classical", "generated", "difference", "validation", "steps to 90 %", "n")
    lines = []
    for row in rows:
        names = [getattr(row, name) for name in columns]
        published = (row.paper_dataset or "", fixed(row.paper_classical, 2), fixed(row.paper_generated, 2))
        lines.append((*names, *_figures(row), *(published if has_paper else ())))
    note = (
        "Test accuracy in percent. n: classical networks, then seeds × generated networks. Validation: accuracy of "
        "generated networks on the samples by which settings may be chosen. Steps to 90 %: of stage 2, until nine "
        f"tenths of the last accuracy on validation. {deviation(rows)}"
    )
    if any(row != before for row, before in zip(rows, given, strict=True)):
        note += " The settings of a row with a number are in results.csv and report.html."
    if any(row.n_seeds for row in rows):
        note += f" {_origin([row for row in rows if row.n_seeds])}"
    if has_paper:
        header += ("paper: data", "paper: classical", "paper: NeuroGen")
        note += " The paper's figures are for its whole datasets and 7–8B backbones."
    return Table("summary", header, lines, note, len(columns))


def _figures(row: Row) -> tuple[str, ...]:
    return (
        spread(row.classical_mean, row.classical_std),
        spread(row.generated_mean, row.generated_std),
        "" if row.difference is None else f"{row.difference:+.2f}",
        fixed(row.validation, 2),
        fixed(row.steps_to_90, 0),
        f"{row.n_classical}, {row.n_seeds} × {row.n_ok // max(1, row.n_seeds)}",
    )


def _origin(rows: Sequence[Row]) -> str:
    machines = sorted({machine for row in rows for machine in row.machines})
    commits = sorted({commit for row in rows for commit in row.commits})
    minutes = f"{minutes_of(rows):.0f} min in all"
    return f"Measured on {', '.join(machines)}; {minutes}; commit {', '.join(commits)}{from_hub(rows)}."
