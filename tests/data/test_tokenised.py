"""A tokenised dataset in its file, and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from neurogen.data.dataset import Dataset, Split
from neurogen.data.preparation import Texts, TokenEmbedding
from neurogen.data.tokenised import load_texts, save_texts
from neurogen.errors import UserError
from tests.conftest import TINY_TEXT, Composed


@pytest.fixture
def dataset(experiment: Composed) -> Dataset:
    """Three short texts in every split."""
    embedding = TokenEmbedding(torch.randn(20, 6, generator=torch.Generator().manual_seed(0)))
    train, validation, test = (
        Split(Texts.of([[3, 1, 4], [1], [5, last]]), torch.tensor([0, 1, 0]), embedding) for last in (9, 2, 6)
    )
    return Dataset.of(experiment(*TINY_TEXT).dataset, ("rotten", "fresh"), train, validation, test)


def test_nothing_is_lost_in_a_file(dataset: Dataset, experiment: Composed, tmp_path: Path) -> None:
    save_texts(dataset, tmp_path)
    loaded = load_texts(experiment(*TINY_TEXT).dataset, tmp_path)
    assert loaded.fingerprint == dataset.fingerprint
    assert (loaded.class_names, loaded.source_labels) == (dataset.class_names, None)
    assert torch.equal(loaded.test.inputs(), dataset.test.inputs())
    save_texts(replace(dataset, source_labels=("0", "1")), tmp_path)
    assert load_texts(experiment(*TINY_TEXT).dataset, tmp_path).source_labels == ("0", "1")


def test_a_broken_file_is_named(dataset: Dataset, experiment: Composed, tmp_path: Path) -> None:
    save_texts(dataset, tmp_path)
    file = tmp_path / "texts.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"texts.safetensors is missing or broken"):
        load_texts(experiment(*TINY_TEXT).dataset, tmp_path)


def test_texts_of_one_length_are_gathered_without_asking_the_device(dataset: Dataset) -> None:
    """The device `meta` keeps shapes and no values: what asked it for a value would fail."""
    split = replace(dataset.train, samples=dataset.train.samples.all_padded())  # type: ignore[union-attr]
    inputs, labels = split.to(torch.device("meta")).batch(torch.tensor([1, 2]))
    assert (inputs.device.type, list(inputs.shape), list(labels.shape)) == ("meta", [2, 3, 6], [2])
    expected, _ = dataset.train.batch(torch.tensor([1, 2]))
    here, _ = split.batch(torch.tensor([1, 2]))
    assert torch.equal(here[:, :2], expected)
    assert not here[:, 2].any()
