"""A JSON or parquet file → its columns. Cells have types: texts, numbers, booleans, null.

in:  the bytes of a JSON file (an array of objects, an object of columns, or an object per line), or of a parquet file
out: of every wanted column a list with a value for every row; the names of the classes, where the file has them

pandas would convert the columns of a JSON file by their names (date, *_at), and whole numbers beside null to floats.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neurogen.config import TextConfig
from neurogen.errors import Advised, UserError, one_line

ROWS_IN_ANY_CASE, ROWS_PER_BYTE = 10**6, 1  # of a parquet file; more are made to fill the memory
Values = dict[str, list[Any]]  # column name → a value per row


class MissingColumns(Advised):
    """A table without the columns of its dataset."""


def require_columns(text: TextConfig, names: Sequence[str], where: str) -> None:
    """Raises MissingColumns where a wanted column is missing, and UserError where it stands twice."""
    wanted = (*text.columns, text.label)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise MissingColumns(
            f"{where} has no column {', '.join(missing)}; it has {', '.join(names)}",
            "set dataset.text.columns=[TEXT] and dataset.text.label=LABEL",
        )
    twice = [name for name in wanted if list(names).count(name) > 1]
    if twice:
        raise UserError(f"{where} has the column {twice[0]} more than once; rename or remove all but one")


def read_json(content: bytes, text: TextConfig, where: str) -> Values:
    """The wanted columns by name; None where an object lacks the key.

    Raises UserError for what is no JSON, for other values than objects, and for missing columns.
    """
    try:
        document = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            raise UserError(f"{where} is no readable JSON table ({error})") from error
        document = _objects_of_lines(content, where)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is no readable JSON table ({one_line(error)})") from error
    if isinstance(document, dict):
        columns = _columns_of(document)
        if columns is not None:
            require_columns(text, list(columns), where)
            return {name: columns[name] for name in (*text.columns, text.label)}
        document = [document]
    return _columns_of_objects(document, text, where)


def read_parquet(content: bytes, text: TextConfig, where: str) -> tuple[Values, tuple[str, ...] | None]:
    """(the wanted columns by name; the names of the classes 0, 1, …, where `datasets` noted them in the file).

    Raises UserError for a broken file and for missing columns.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(pyarrow.BufferReader(content))
        require_columns(text, file.schema_arrow.names, where)
        if file.metadata.num_rows > ROWS_IN_ANY_CASE + ROWS_PER_BYTE * len(content):
            raise UserError(
                f"{where} says that it has {file.metadata.num_rows:,} rows in {len(content):,} bytes; replace it"
            )
        table = file.read(columns=list(dict.fromkeys((*text.columns, text.label))))
        values = {name: table[name].to_pylist() for name in table.column_names}
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{where} is no readable parquet table ({one_line(error)})") from error
    return values, _class_names(file.schema_arrow.metadata or {}, text.label, where)


def class_names_in(path: Path, label: str) -> tuple[str, ...] | None:
    """The names of the classes that `datasets` noted in a parquet file. Raises UserError for a broken file."""
    import pyarrow
    from pyarrow import parquet

    try:
        return _class_names(parquet.read_schema(path).metadata or {}, label, str(path))
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path} is no readable parquet table ({one_line(error)})") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError where a key stands twice, of which json would keep the last."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"an object has a key twice; its keys: {', '.join(key for key, _ in pairs)}")
    return values


def _objects_of_lines(content: bytes, where: str) -> list[Any]:
    """The value of every line that is not blank."""
    values = []
    for number, line in enumerate(io.TextIOWrapper(io.BytesIO(content), "utf-8-sig"), 1):
        if line.strip():
            try:
                values.append(json.loads(line, object_pairs_hook=_object))
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where}, line {number}: this is no JSON object ({one_line(error)})") from error
    return values


def _columns_of(document: dict[str, Any]) -> Values | None:
    """An object of columns, each a list or (as pandas writes it) an object of rows; None for anything else."""
    columns = list(document.values())
    if columns and all(isinstance(column, dict) and list(column) == list(columns[0]) for column in columns):
        return {name: list(column.values()) for name, column in document.items()}
    if columns and all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return document if len(columns) > 1 else None  # {"data": [...]} is no column
    return None


def _columns_of_objects(objects: Any, text: TextConfig, where: str) -> Values:
    if not isinstance(objects, list):
        raise UserError(f"{where} holds {json.dumps(objects)[:40]}; give an array of objects, or an object per line")
    if not objects:
        return {name: [] for name in (*text.columns, text.label)}
    for number, row in enumerate(objects, 1):
        if not isinstance(row, dict):
            raise UserError(f"{where}: sample {number} is {json.dumps(row)[:40]}; every sample must be an object")
    require_columns(text, list(dict.fromkeys(key for row in objects for key in row)), where)
    return {name: [row.get(name) for row in objects] for name in (*text.columns, text.label)}


def _class_names(metadata: dict[bytes, bytes], label: str, where: str) -> tuple[str, ...] | None:
    """The names in a ClassLabel of `datasets`, which notes the features of a table in its schema.

    Raises UserError where that note is broken.
    """
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        feature = features.get(label)
        names = feature.get("names") if isinstance(feature, dict) else None
        return None if names is None else tuple(names)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise UserError(f"{where} has broken notes of its features ({one_line(error)}); save it again") from error
