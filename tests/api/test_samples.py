"""Tables that a finished generator reads: labels mean what they meant in training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import torch

from neurogen.api.samples import SampleReader
from neurogen.data.preparation import TextShape, TokenEmbedding
from neurogen.errors import UserError
from neurogen.generator.pretrained import load_tokenizer
from tests.conftest import TINY_TEXT, Composed

NUMBERS, STARS = ("0", "1", "2"), ("1", "2", "3")


@pytest.fixture
def reader(experiment: Composed) -> SampleReader:
    """Of films with one to three stars, whose tables have the numbers 0 to 2."""
    about = experiment(*TINY_TEXT)
    embedding = TokenEmbedding(torch.ones(1000, 4))
    return SampleReader(about.dataset, TextShape(4, 3), STARS, embedding, load_tokenizer(about.backbone), None, NUMBERS)


def read(reader: SampleReader, path: Path, *labels: str) -> list[int]:
    """The labels of a table, as the reader understands them."""
    path.write_text("text,label\n" + "".join(f"film {n},{label}\n" for n, label in enumerate(labels)), encoding="utf-8")
    return reader.read(path).labels.tolist()


def test_labels_of_a_table_are_read_as_those_of_the_training_data(reader: SampleReader, tmp_path: Path) -> None:
    table = tmp_path / "new.csv"
    assert read(reader, table, "0", "1", "2") == [0, 1, 2]
    assert read(reader, table, "1", "2") == [1, 2]  # a table that lacks a class
    assert read(reader, table, "3", "1") == [2, 0]  # 3 is only a name
    by_name = replace(reader, source_labels=STARS)
    assert read(by_name, table, "1", "2") == [0, 1]
    with pytest.raises(UserError, match=r"new.csv has the label '0'; allowed: 1, 2, 3"):
        read(by_name, table, "0", "1")
    assert read(replace(reader, source_labels=None), table, "1", "2") == [0, 1]


def test_other_columns_name_no_setting_that_a_generator_lacks(reader: SampleReader, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("Text,label\nfilm,0\n")
    message = rf"new.csv has no column text; it has Text, label; call them as {reader.dataset.name} does"
    with pytest.raises(UserError, match=message):
        reader.read(tmp_path / "new.csv")


def test_numbers_that_the_file_itself_names_are_those_names(reader: SampleReader, tmp_path: Path) -> None:
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["2", "1"]))
    datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features).to_parquet(tmp_path / "new.parquet")
    assert reader.read(tmp_path / "new.parquet").labels.tolist() == [1, 0]


def test_half_of_a_sign_is_refused(reader: SampleReader) -> None:
    with pytest.raises(UserError, match=r"the text 'good \\ud83d' has half of a sign"):
        reader.samples(["good \ud83d"])


def test_numbers_of_a_program_are_those_of_the_tables(reader: SampleReader) -> None:
    assert reader.labels([1, 2]).tolist() == [1, 2]
    for stars in (replace(reader, source_labels=STARS), replace(reader, source_labels=None)):
        assert stars.labels([1, 2]).tolist() == [0, 1]
        assert stars.labels(["1", "2"]).tolist() == [0, 1]
        assert stars.split(["dull", "fine"], [2, 3]).labels.tolist() == [1, 2]


@pytest.mark.parametrize("samples", [[], (), torch.zeros((0, 4), dtype=torch.int64)])
def test_no_texts_at_all_are_refused(reader: SampleReader, samples: object) -> None:
    with pytest.raises(UserError, match=r"samples of .* are"):
        reader.samples(samples)
    with pytest.raises(UserError, match=r"samples of .* are"):
        reader.split(samples, [])


@pytest.mark.parametrize("labels", [None, 3])
def test_samples_without_labels_are_refused(reader: SampleReader, labels: object) -> None:
    with pytest.raises(UserError, match=r"labels= are a .*; give a list or an array with the label of every sample"):
        reader.split(["dull"], labels)
