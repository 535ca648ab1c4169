"""Tables in files → their columns, and the files that the text loaders read.

in:  dataset.path: one table, a folder with train.* and maybe validation.* and test.*, or a folder of the hub's files
out: of every wanted column a list with a value for every row; which files these were

The endings are those of SUFFIXES, in any case, and each may be followed by one of OPENERS. This module imports neither
torch nor pyarrow, since the identity of a dataset is needed before anything is loaded.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from neurogen.config import DatasetConfig, TextConfig
from neurogen.data.hub_dataset import hub_files
from neurogen.data.records import Values, read_json, read_parquet
from neurogen.data.separated import read_separated
from neurogen.data.splits import SplitName, split_named
from neurogen.errors import UserError, one_line, some_of

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
OPENERS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
ENDINGS = f"{', '.join(SUFFIXES)}, each also with {', '.join(OPENERS)}"
# Texts become 3 to 30 times as long when they are decompressed. What becomes much longer is made to fill the memory.
UNPACKED_PER_BYTE, UNPACKED_IN_ANY_CASE = 200, 2**28
MOST_LISTED = 5  # names in a note


@dataclass(frozen=True)
class FileName:
    """A table's file name in parts, in lower case: stem, ending, and the ending of its compression, or nothing."""

    stem: str
    suffix: str
    compression: str

    @staticmethod
    def of(path: Path) -> FileName | None:
        """None where the ending is not that of a table."""
        name = Path(path.name.lower())
        compression = name.suffix if name.suffix in OPENERS else ""
        name = Path(name.name.removesuffix(compression))
        return FileName(name.stem, name.suffix, compression) if name.suffix in SUFFIXES else None


@dataclass(frozen=True)
class SplitFiles:
    """The tables of a dataset by split, in the order train, validation, test, and what else is in their folder."""

    paths: dict[str, Path]
    others: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not read, in one sentence."""
        if not self.others:
            return ()
        return (f"not read, since they are no train.*, validation.* or test.*: {some_of(self.others, MOST_LISTED)}",)


def files_read(config: DatasetConfig) -> list[Path]:
    """The files that `text_table` reads, or `hub_text` where dataset.path is a folder; always in the same order.

    It is empty where `hub_text` reads from the hub. Raises UserError where there are no such files.
    """
    path = Path(config.path or "")
    if config.load == "hub_text":
        return hub_files(config) if path.is_dir() else []
    return list(split_files(path).paths.values())


def split_files(path: Path) -> SplitFiles:
    """One table as train, or the tables of a folder by split. Hidden files do not count.

    Raises UserError where there is neither, or where a split has several tables.
    """
    if path.is_file():
        return SplitFiles({"train": path})
    names = sorted(path.iterdir()) if path.is_dir() else []
    tables = {file: name for file in names if file.is_file() and (name := FileName.of(file)) is not None}
    paths: dict[str, Path] = {}
    for split in SplitName:
        candidates = [file for file, name in tables.items() if split_named(name.stem) == split]
        if len(candidates) > 1:
            listed = " and ".join(file.name for file in candidates)
            raise UserError(f"dataset.path={path} has {listed} for the split {split}; leave only one of them there")
        if candidates:
            paths[split] = candidates[0]
    if not path.exists():
        raise UserError(f"dataset.path={path} does not exist; give one table ({ENDINGS}), or a folder with train.*")
    if "train" not in paths:
        listed = some_of([file.name for file in names], MOST_LISTED) or "nothing"
        raise UserError(
            f"dataset.path={path} must be one table ({ENDINGS}), or a folder with train.* and maybe validation.* and "
            f"test.*; it has no train.*, but {listed}"
        )
    others = [file for file in names if file not in paths.values() and not file.name.startswith(".")]
    return SplitFiles(paths, tuple(f"{file.name}/" if file.is_dir() else file.name for file in others))


def read_columns(path: Path, text: TextConfig) -> tuple[Values, tuple[str, ...] | None]:
    """(the columns of texts and labels of one file; the names of the classes 0, 1, …, where the file has them).

    Raises UserError, which names file and row, for another format, a broken or empty file, and missing columns.
    """
    name, where = FileName.of(path), str(path)
    if name is None:
        raise UserError(f"{path} is no table that is read here; allowed: {ENDINGS}")
    content = _content(path, name)
    class_names = None
    values: Values
    if name.suffix == ".parquet":
        values, class_names = read_parquet(content, text, where)
    else:
        _refuse_other_encodings(content, where)
        if not content.decode("utf-8-sig").strip():
            raise UserError(f"{path} is empty")
        is_separated = name.suffix in (".csv", ".tsv")
        values = read_separated(content, name.suffix, text, where) if is_separated else read_json(content, text, where)
    if not values[text.label]:
        raise UserError(f"{path} has no rows; give at least one sample of every class")
    return values, class_names


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def _content(path: Path, name: FileName) -> bytes:
    """The bytes of the file, decompressed."""
    try:
        most = UNPACKED_IN_ANY_CASE + UNPACKED_PER_BYTE * path.stat().st_size
        with OPENERS.get(name.compression, _open)(path) as file:
            content: bytes = file.read(most + 1)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise UserError(
            f"{path} is no readable {name.suffix}{name.compression} file ({one_line(error)}); repair or replace it"
        ) from error
    if len(content) > most:
        raise UserError(
            f"{path} becomes more than {most:,} bytes when it is decompressed, {UNPACKED_PER_BYTE} times its size; "
            "decompress it yourself, if it is a table"
        )
    return content


def _refuse_other_encodings(content: bytes, where: str) -> None:
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{where} is not UTF-8 ({error.reason} in line {line}); save it as UTF-8") from error
