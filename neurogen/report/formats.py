"""The rows of a study as files: results.json, .csv, .md and .tex, and a report of every row as Markdown.

in:  Rows
out: files in the study's folder
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from neurogen import store
from neurogen.report import study_tables, tables
from neurogen.report.table import Table
from neurogen.study.results import from_json, to_json
from neurogen.study.rows import COLUMNS, NAMES, RESULTS_FILE, Row

LONGEST_SLUG = 120  # bytes of 255, which what stands before and behind it needs too
SYMBOLS = str.maketrans({"±": r"$\pm$", "×": r"$\times$", "α": r"$\alpha$", "–": "--"})  # tabulate leaves them


def write_study(rows: Sequence[Row], folder: Path) -> None:
    """All tables of a study."""
    store.write_json(folder / RESULTS_FILE, to_json(list(rows)))
    store.write_file(folder / "results.csv", lambda path: write_csv(rows, path))
    table = study_tables.of_study(rows)
    store.write_text(folder / "results.md", markdown(table, title=False))
    store.write_text(folder / "results.tex", latex(table))
    for row in rows:
        if row.populations:
            store.write_text(folder / f"report-{slug(row)}.md", report(row))


def read_rows(folder: Path) -> list[Row]:
    """The rows of a study that is finished. Raises UserError where they cannot be read."""
    path = folder / RESULTS_FILE
    return from_json(list[Row], store.read_json(path), path)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """The columns that are a single value, a line per row."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(map(to_json, rows))


def report(row: Row) -> str:
    """All tables of a row as Markdown."""
    head = f"# {tables.heading(row)}\n\n{tables.summary(row)}\n"
    return "\n".join([head, *map(markdown, tables.of_row(row))])


def markdown(table: Table, title: bool = True) -> str:
    """The table under its title, its note below."""
    lines = [tuple(cell.replace("|", r"\|") for cell in cells) for cells in (table.header, *table.rows)]
    text = tabulate(lines[1:], lines[0], tablefmt="pipe", disable_numparse=True, colalign=table.alignment)
    head = f"## {table.title.capitalize()}\n\n" if title else ""
    return f"{head}{text}\n\n{table.note}\n"


def latex(table: Table) -> str:
    """A table for a paper, its note as a comment."""
    text = tabulate(table.rows, table.header, tablefmt="latex", disable_numparse=True, colalign=table.alignment)
    return f"% {table.note}\n{text.translate(SYMBOLS)}\n"


def slug(row: Row) -> str:
    """A cell as a part of a file's name, not too long for any file system. No other cell has it: where the name does
    not say all characters of the cell, a digest does."""
    *names, settings = (getattr(row, name) for name in NAMES)
    words = "-".join(filter(None, (*names, settings)))
    name = "".join(letter if _is_kept(letter) else "-" for letter in words)
    says_all = all(map(_is_kept, "".join(names) + settings.replace(" ", "")))
    short = name.encode()[:LONGEST_SLUG].decode(errors="ignore")
    if says_all and short == name:
        return name
    return f"{short}-{hashlib.sha256(repr((names, settings)).encode()).hexdigest()[:6]}"


def _is_kept(letter: str) -> bool:
    """Of - and a space one is enough, since they become the same; so it is the space, which settings have."""
    return letter.isalnum() or letter in "_.="
