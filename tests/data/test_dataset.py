"""Splits of every dataset: by class, without overlap, by seed; and what is refused."""

from __future__ import annotations

import pytest
import torch

from neurogen.data.dataset import Dataset, load_images
from neurogen.data.raw import load_raw
from neurogen.errors import UserError
from tests.conftest import Composed
from tests.data.test_texts import load


def rows(dataset: Dataset, name: str) -> set[bytes]:
    """The images of a split, to be compared as a set."""
    return {image.numpy().tobytes() for image in getattr(dataset, name).samples}


@pytest.mark.parametrize(("name", "sizes"), [("digits", (1295, 143, 359)), ("mnist5k", (3600, 400, 1000))])
def test_packaged_datasets_are_split_by_class_without_overlap(
    experiment: Composed, name: str, sizes: tuple[int, ...]
) -> None:
    dataset = load_images(experiment(f"dataset={name}").dataset)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == sizes
    train, validation, test = (
        torch.bincount(getattr(dataset, split).labels) for split in ("train", "validation", "test")
    )
    assert ((validation - 0.1 * (train + validation)).abs() <= 0.5).all()
    assert ((test - 0.2 * (train + validation + test)).abs() <= 0.5).all()
    assert not rows(dataset, "train") & rows(dataset, "validation")
    assert not rows(dataset, "train") & rows(dataset, "test")
    inputs = dataset.train.inputs()
    assert abs(float(inputs.mean())) < 1e-3
    assert abs(float(inputs.std()) - 1) < 1e-3


def test_a_place_that_is_not_read_is_named(experiment: Composed) -> None:
    """It is no error: a sweep may give one place for datasets of which some come in a package."""
    plain, placed = (load_raw(experiment("dataset=digits", *words).dataset) for words in ([], ["dataset.path=/x"]))
    assert placed.notes == ("dataset.path=/x is not read: these data come in a package", *plain.notes)


def test_the_split_seed_moves_validation_but_never_test(experiment: Composed) -> None:
    first, second = (load_images(experiment(f"dataset.split_seed={seed}").dataset) for seed in (0, 1))
    assert rows(first, "test") == rows(second, "test")
    assert rows(first, "validation") != rows(second, "validation")
    assert first.fingerprint != second.fingerprint


def test_limited_data_counts_validation_in(experiment: Composed) -> None:
    dataset = load_images(experiment("dataset.limit=200").dataset)
    assert len(dataset.train) + len(dataset.validation) == 200
    assert len(dataset.test) == 359


def test_limit_and_split_seed_hold_for_texts_too(experiment: Composed) -> None:
    limited = load(experiment, "rotten_tomatoes", "dataset.limit=100")
    assert limited.validation is not None
    assert len(limited.train) + len(limited.validation) == 100
    first, second = (load(experiment, "rotten_tomatoes", f"dataset.split_seed={seed}") for seed in (0, 1))
    assert list(first.test.samples) == list(second.test.samples)
    assert first.test.labels.tolist() == second.test.labels.tolist()
    assert set(first.train.samples) != set(second.train.samples)


@pytest.mark.parametrize("limit", [5, 20, 25])
def test_too_few_samples_are_refused(experiment: Composed, limit: int) -> None:
    with pytest.raises(UserError, match=rf"dataset.limit={limit}"):
        load_images(experiment(f"dataset.limit={limit}").dataset)


def test_an_unknown_loader_is_refused(experiment: Composed) -> None:
    with pytest.raises(UserError, match="allowed: digits"):
        load_images(experiment("dataset.load=nothing").dataset)


def test_a_loader_that_does_not_fit_its_config_is_named(experiment: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"gives no images: bytes .* `defaults: \[/text_dataset@_here_\]`"):
        load_raw(experiment("dataset.load=rotten_tomatoes").dataset)
    with pytest.raises(UserError, match=r"digits gives no texts"):
        load(experiment, "rotten_tomatoes", "dataset.load=digits")


def test_data_on_a_device_are_the_same_data(experiment: Composed) -> None:
    """The device `meta` keeps shapes and no values: what asked it for a value would fail. So no batch does."""
    dataset = load_images(experiment().dataset)
    assert dataset.to(torch.device("cpu")).train.samples is dataset.train.samples  # nothing is copied
    meta = dataset.to(torch.device("meta"))
    assert meta.fingerprint == dataset.fingerprint
    assert meta.train.preparation.mean is meta.test.preparation.mean  # type: ignore[union-attr]
    inputs, labels = meta.train.batch(torch.tensor([2, 0, 1]))
    assert {inputs.device.type, labels.device.type} == {"meta"}
    expected, classes = dataset.train.batch(torch.tensor([2, 0, 1]))
    assert (inputs.shape, labels.shape) == (expected.shape, classes.shape)
    assert torch.equal(classes, dataset.train.labels[[2, 0, 1]])
