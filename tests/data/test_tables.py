"""Tables in files: endings and compressions, JSON and parquet with their types, and which files are read."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pytest
from pyarrow import parquet

from neurogen.data.tables import FileName, files_read, read_columns, split_files
from neurogen.errors import UserError
from tests.conftest import Composed
from tests.data.test_separated import TEXT

ROWS = [{"text": "ein schöner Film", "label": 0}, {"text": "NA", "label": 1}, {"text": "2001-01-01", "label": 1}]
CSV = "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in ROWS)
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
TEXTS = [str(row["text"]) for row in ROWS]


def read(path: Path, content: bytes) -> dict[str, list[Any]]:
    """The columns of a file with this content."""
    path.write_bytes(content)
    return read_columns(path, TEXT)[0]


def noted(features: bytes) -> bytes:
    """A parquet table with this in place of what `datasets` notes of its columns."""
    buffer = io.BytesIO()
    parquet.write_table(
        pyarrow.table(pandas.DataFrame(ROWS)).replace_schema_metadata({b"huggingface": features}), buffer
    )
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES.encode()),
        ("a.jsonl", LINES.encode("utf-8-sig")),
        ("a.jsonl", LINES.replace("\n", "\r\n").encode()),
        ("a.jsonl", LINES.replace("\n", "\n\n").encode()),
        ("a.NDJSON", LINES.encode()),
        ("lines.json", LINES.encode()),
        ("a.json", json.dumps(ROWS).encode()),
        ("array.jsonl", json.dumps(ROWS, indent=1).encode()),
        ("columns.json", pandas.DataFrame(ROWS).to_json().encode()),
        ("columns.json", json.dumps({key: [row[key] for row in ROWS] for key in ("text", "label")}).encode()),
        ("a.JSON.xz", lzma.compress(json.dumps(ROWS).encode())),
        ("a.parquet", pandas.DataFrame(ROWS).to_parquet()),
        ("a.parquet", pandas.DataFrame(ROWS).astype({"label": "Int64"}).to_parquet()),
        ("a.parquet", pandas.DataFrame(ROWS).astype({"text": "category"}).to_parquet()),
    ],
)
def test_json_and_parquet_keep_types(tmp_path: Path, name: str, content: bytes) -> None:
    assert read(tmp_path / name, content) == {"text": TEXTS, "label": [0, 1, 1]}


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("A.CSV", bytes),
        ("a.csv.gz", gzip.compress),
        ("a.csv.bz2", bz2.compress),
        ("a.csv.xz", lzma.compress),
        ("A.Csv.GZ", gzip.compress),
    ],
)
def test_endings_in_any_case_and_compressed(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    assert read(tmp_path / name, pack(CSV.encode())) == {"text": TEXTS, "label": ["0", "1", "1"]}


def test_whole_numbers_beside_null_stay_whole(tmp_path: Path) -> None:
    table = pandas.DataFrame({"text": ["a", "b"], "label": pandas.array([2**60 + 1, None], dtype="Int64")})
    assert read(tmp_path / "a.parquet", table.to_parquet())["label"] == [2**60 + 1, None]
    lines = b'{"text": "a", "label": 1152921504606846977}\n{"text": "b"}\n'
    assert read(tmp_path / "a.jsonl", lines)["label"] == [2**60 + 1, None]


@pytest.mark.parametrize("key", ["date", "modified", "sold_at", "timestamp"])
def test_no_column_is_converted_for_its_name(tmp_path: Path, key: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"text": "a", "{key}": "2001"}}\n{{"text": "b", "{key}": 100000000}}\n')
    columns, _ = read_columns(tmp_path / "a.jsonl", replace(TEXT, label=key))
    assert columns[key] == ["2001", 100000000]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", b"\xef\xbb\xbf\n \n", "a.csv is empty"),
        ("a.csv", b"text,label\n", "a.csv has no rows"),
        ("a.json", b"[]", "a.json has no rows"),
        ("a.parquet", pandas.DataFrame(ROWS)[:0].to_parquet(), "a.parquet has no rows"),
        ("a.csv", CSV.encode("utf-16"), "a.csv is not UTF-8 (invalid start byte in line 1); save it as UTF-8"),
        ("a.csv", CSV.encode("latin-1"), "a.csv is not UTF-8 (invalid start byte in line 2)"),
        ("a.jsonl", LINES.encode("utf-16"), "a.jsonl is not UTF-8"),
        ("a", CSV.encode(), "is no table that is read here; allowed: .csv, .tsv"),
        ("a.txt", CSV.encode(), "is no table that is read here; allowed: .csv, .tsv"),
        ("a.csv.gz", CSV.encode(), "is no readable .csv.gz file"),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0)[:-9], "is no readable .csv.gz file"),
        ("a.csv.bz2", bz2.compress(CSV.encode())[:-9], "is no readable .csv.bz2 file"),
        ("a.csv.xz", b"\xfd7zXZ\0 broken", "is no readable .csv.xz file"),
        ("a.parquet", pandas.DataFrame(ROWS).to_parquet()[:-9], "is no readable parquet table"),
        ("a.parquet", noted(b"["), "has broken notes of its features"),
        ("a.parquet", noted(b"[" * 200_000), "has broken notes of its features"),
        ("a.jsonl", LINES.encode() + b"not JSON\n", "line 4: this is no JSON object"),
        ("a.jsonl", LINES.encode() + b"[1]\n", "sample 4 is [1]; every sample must be an object"),
        ("a.jsonl", LINES.encode() + b'{"text": "a", "text": "b"}\n', "an object has a key twice"),
        ("a.json", b'{"text": "a",', "is no readable JSON table"),
        ("a.json", b"5", "holds 5; give an array of objects, or an object per line"),
        ("a.json", json.dumps({"data": ROWS}).encode(), "has no column text, label; it has data"),
        ("a.parquet", pandas.DataFrame({"text": ["a"]}).to_parquet(), "has no column label; it has text"),
    ],
)
def test_what_is_no_table_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path / name, content)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "compress"), [("a.csv.gz", gzip.compress), ("a.csv.bz2", bz2.compress), ("a.csv.xz", lzma.compress)]
)
def test_a_table_that_fills_the_memory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, compress: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr("neurogen.data.tables.UNPACKED_IN_ANY_CASE", 2**20)
    assert read(tmp_path / name, compress(CSV.encode()))["text"] == TEXTS
    with pytest.raises(UserError, match=rf"{name} becomes more than 1,[\d,]+ bytes when it is decompressed, 200 times"):
        read(tmp_path / name, compress(CSV.encode() + bytes(2**22)))


def test_a_parquet_table_of_more_rows_than_bytes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurogen.data.records.ROWS_IN_ANY_CASE", 10_000)
    rows = pandas.DataFrame({"text": "the same", "label": [0] * 50_000})
    with pytest.raises(UserError, match=r"a.parquet says that it has 50,000 rows in \d,\d+ bytes"):
        read(tmp_path / "a.parquet", rows.to_parquet())


def test_the_name_of_a_file_in_parts() -> None:
    assert FileName.of(Path("x/Train.v2.CSV.Gz")) == FileName("train.v2", ".csv", ".gz")
    assert FileName.of(Path("x/notes.md")) is None
    assert FileName.of(Path("x/.csv")) is None


def folder(path: Path, *names: str) -> Path:
    """A folder of empty files."""
    path.mkdir()
    for name in names:
        (path / name).touch()
    return path


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train.csv", "validation.csv", "test.csv"),
        ("TRAIN.CSV", "Valid.jsonl.gz", "Test.parquet"),
        ("training.tsv", "val.ndjson", "testing.json"),
        ("train.csv.xz", "dev.csv", "test.csv.bz2"),
    ],
)
def test_splits_go_by_the_names_of_files(
    experiment: Composed, tmp_path: Path, train: str, validation: str, test: str
) -> None:
    path = folder(tmp_path / "data", train, test, validation, "notes.md", "extra.csv", ".DS_Store")
    (path / "old").mkdir()
    files = split_files(path)
    assert files.paths == {"train": path / train, "validation": path / validation, "test": path / test}
    assert files.others == ("extra.csv", "notes.md", "old/")
    assert files.notes == ("not read, since they are no train.*, validation.* or test.*: extra.csv, notes.md, old/",)
    config = experiment("dataset=text_table", "target=mlp", f"dataset.path={path}").dataset
    assert files_read(config) == [path / train, path / validation, path / test]


def test_one_file_is_the_only_one_that_is_read(experiment: Composed, tmp_path: Path) -> None:
    path = folder(tmp_path / "data", "train.csv", "test.csv") / "train.csv"
    assert files_read(experiment("dataset=text_table", "target=mlp", f"dataset.path={path}").dataset) == [path]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train.csv", "train.jsonl"], "has train.csv and train.jsonl for the split train; leave only one"),
        (["train.csv", "dev.csv", "val.tsv"], "has dev.csv and val.tsv for the split validation"),
        (["test.csv", "b.txt"], "it has no train.*, but b.txt, test.csv"),
        ([], "it has no train.*, but nothing"),
    ],
)
def test_folders_without_one_table_per_split_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        split_files(folder(tmp_path / "data", *names))
    assert message in str(caught.value)


def test_of_a_folder_of_the_hub_only_what_is_read_counts(experiment: Composed, tmp_path: Path) -> None:
    path = folder(tmp_path / "hub", "README.md", ".hidden.parquet", "notes.pdf")
    for split in ("test", "train", "validation"):
        pandas.DataFrame(ROWS).to_parquet(path / f"{split}-00000-of-00001.parquet")
    config = experiment("dataset=sst2", "target=mlp", f"dataset.path={path}").dataset  # tested on validation
    names = ["train-00000-of-00001.parquet", "validation-00000-of-00001.parquet", "README.md"]
    assert files_read(config) == [path / name for name in names]
    (tmp_path / "link").symlink_to(path)
    linked = replace(config, path=str(tmp_path / "link"))
    assert files_read(linked) == [tmp_path / "link" / name for name in names]
    assert files_read(experiment("dataset=sst2", "target=mlp").dataset) == []
    empty = folder(tmp_path / "empty")
    with pytest.raises(UserError, match="is no folder of the hub's files"):
        files_read(experiment("dataset=sst2", "target=mlp", f"dataset.path={empty}").dataset)


def test_which_files_are_read_is_known_without_heavy_libraries() -> None:
    program = "import sys, neurogen.data.tables; print([n for n in ('torch', 'pandas', 'pyarrow') if n in sys.modules])"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert process.stdout == "[]\n"
