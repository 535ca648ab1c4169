"""A CSV or TSV file → its columns. Every cell is text as it is written.

in:  the bytes of a UTF-8 file with a header; its line ends are LF, CRLF or CR
out: of every wanted column a list with a text for every row

The separator of a CSV file is the one whose header has the wanted columns. In a TSV file quotation marks have no
meaning. A quotation mark that is never closed swallows the rows behind it: the csv module notices some of these, and
what it cannot notice shows in a field whose lines look like rows.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from neurogen.config import TextConfig
from neurogen.data.records import require_columns
from neurogen.errors import UserError


@dataclass(frozen=True)
class Form:
    """How a file keeps its fields apart; `quoting` is the csv module's QUOTE_MINIMAL or QUOTE_NONE."""

    separator: str
    quoting: Literal[0, 3]


FORMS = {
    ".csv": tuple(Form(separator, csv.QUOTE_MINIMAL) for separator in ",;\t|"),
    ".tsv": (Form("\t", csv.QUOTE_NONE),),
}


@dataclass(frozen=True)
class LongRow:
    """A row that spans several lines of the file."""

    cells: list[str]
    lines: tuple[int, int]  # the first and the last


def read_separated(content: bytes, suffix: str, text: TextConfig, where: str) -> dict[str, list[str]]:
    """The wanted columns by name; `suffix` is .csv or .tsv.

    Raises UserError, which names the line, for a broken quotation, a row with more or fewer fields than the header
    has, a quotation that swallowed rows, a NUL character, and missing columns.
    """
    if b"\0" in content:
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        raise UserError(f"{where}, line {line}: there is a NUL character; save the file as UTF-8 (is it UTF-16?)")
    form, names = _form_of(content, suffix, text, where)
    require_columns(text, names, where)
    columns = {name: names.index(name) for name in (*text.columns, text.label)}
    values: dict[str, list[str]] = {name: [] for name in columns}
    long_rows: list[LongRow] = []
    rows = _rows(content, form, where)
    next(rows)  # the header
    for cells, first, last in rows:
        if len(cells) != len(names):
            hint = (
                "complete or remove this row"
                if len(cells) < len(names)
                else f"put a field that holds the separator {form.separator!r} in quotation marks"
            )
            raise UserError(
                f"{where}, line {first}: the number of fields is {len(cells)}, and {len(names)} in the header "
                f"({', '.join(names)}); {hint}"
            )
        if last > first:
            long_rows.append(LongRow(cells, (first, last)))
        for name, column in columns.items():
            values[name].append(cells[column])
    known = Counter(values[text.label])
    for row in long_rows:
        _refuse_swallowed(row, form, columns[text.label], known, where)
    return values


def _form_of(content: bytes, suffix: str, text: TextConfig, where: str) -> tuple[Form, list[str]]:
    """(the form whose header has all wanted columns, or else most columns; the names in this header)."""
    headers = {}
    for form in FORMS[suffix]:
        try:
            cells: list[str] = next(filter(None, _reader(content, form)), [])
        except csv.Error:  # the marks around another form's fields
            continue
        headers[form] = [name.strip() for name in cells]
    if not headers:
        raise UserError(f"{where}: a quotation mark in the header is not closed")
    wanted = {*text.columns, text.label}
    best = max(headers, key=lambda form: (wanted <= set(headers[form]), len(headers[form])))
    return best, headers[best]


def _reader(content: bytes, form: Form) -> Any:
    csv.field_size_limit(sys.maxsize)  # a text may be longer than the csv module's 131,072 characters
    lines = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")
    return csv.reader(lines, delimiter=form.separator, quoting=form.quoting, strict=True)


def _rows(content: bytes, form: Form, where: str) -> Iterator[tuple[list[str], int, int]]:
    """Every row that is not empty, with its first and its last line. Raises UserError for a broken quotation."""
    reader = _reader(content, form)
    while True:
        first = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            lines = f"line {first}" if reader.line_num == first else f"lines {first} to {reader.line_num}"
            raise UserError(
                f"{where}, {lines}: a quotation mark is not closed, or text follows it ({error}); write a quotation "
                "mark within a text twice"
            ) from error
        if cells:
            yield cells, first, reader.line_num


def _refuse_swallowed(row: LongRow, form: Form, label: int, known: Counter[str], where: str) -> None:
    """Raises UserError where a field of this row holds whole rows. `known` counts the labels of all rows."""
    for index, cell in enumerate(row.cells):
        lines = [line for line in re.split(r"\r\n|\r|\n", cell) if line.strip()]
        if len(lines) < 2:
            continue
        # completed by its neighbours, every line of a field that swallowed rows is a row
        parts = [line.split(form.separator) for line in lines]
        parts[0] = row.cells[:index] + parts[0]
        parts[-1] = parts[-1] + row.cells[index + 1 :]
        if any(len(cells) != len(row.cells) for cells in parts):
            continue
        # a label that a neighbour brought proves nothing
        inside = parts[label < index : len(parts) - (label > index)]
        matches = sum(known[cells[label]] > (cells[label] == row.cells[label]) for cells in inside)
        # in front of the text even a sentence may begin with a label and the separator: 1,5 stars
        if matches >= (2 if label < index else 1) and 2 * matches >= len(inside):
            first, last = row.lines
            raise UserError(
                f"{where}, lines {first} to {last}: a field of {len(cell):,} characters holds {len(parts)} lines that "
                "look like rows; close its quotation mark (a text that does hold such lines can stand in a .jsonl file)"
            )
