"""Several datasets as one: what becomes of their classes, their samples and their identity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neurogen.config import DatasetConfig, PartConfig
from neurogen.data.arrays import store_splits
from neurogen.data.dataset import load_images
from neurogen.data.identity import identity
from neurogen.data.raw import Labelled
from neurogen.errors import UserError
from neurogen.fetch import dataset_sources
from tests.conftest import Composed

DIGITS = PartConfig("digits", "digits", None)


def stored(folder: Path, class_names: tuple[str, ...], size: int = 8, seed: int = 0) -> PartConfig:
    """Twenty noisy images a class in a file, as a part."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 255, (20 * len(class_names), 1, size, size), dtype=np.uint8)
    labelled = Labelled.of(images, np.arange(len(images)) % len(class_names))
    half = len(images) // 2
    splits = {"train": labelled[np.arange(half)], "test": labelled[np.arange(half, len(images))]}
    return PartConfig("noise", "arrays", str(store_splits(splits, class_names, folder)))


def pool_of(experiment: Composed, *parts: PartConfig) -> DatasetConfig:
    return replace(experiment().dataset, name="both", load="pool", parts=list(parts))


def test_classes_and_samples_of_all_parts(experiment: Composed, tmp_path: Path) -> None:
    part = stored(tmp_path, ("stars", "stripes"))
    both = load_images(pool_of(experiment, DIGITS, part))
    digits = load_images(experiment().dataset)
    assert both.class_names == (*digits.class_names, "stars", "stripes")
    assert len(both.test) == len(digits.test) + 20
    assert torch.equal(both.test.samples[: len(digits.test)], digits.test.samples)
    assert both.test.labels[len(digits.test) :].unique().tolist() == [10, 11]


def test_it_is_another_pool_when_the_files_of_a_part_are_others(experiment: Composed, tmp_path: Path) -> None:
    before, after = (stored(tmp_path / str(seed), ("stars", "stripes"), seed=seed) for seed in range(2))
    identities = [identity(pool_of(experiment, DIGITS, part)) for part in (before, after, before)]
    assert identities[0] == identities[2] != identities[1]


def test_what_a_part_is_downloaded_from_is_a_source_of_the_pool(experiment: Composed, tmp_path: Path) -> None:
    config = pool_of(experiment, DIGITS, PartConfig("mnist", "mnist", str(tmp_path)))
    assert [source.name for source in dataset_sources(config)] == ["dataset mnist"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: [], r"dataset.parts=\[\] names none"),
        (lambda folder: [DIGITS, DIGITS], "digits and digits both have the class 0"),
        (lambda folder: [DIGITS, stored(folder, ("7", "x"))], "digits and noise both have the class 7"),
        (lambda folder: [DIGITS, stored(folder, ("a", "b"), size=9)], r"digits \[1, 8, 8\]; noise \[1, 9, 9\]"),
    ],
)
def test_parts_that_do_not_fit_together(experiment: Composed, tmp_path: Path, make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(UserError, match=message):
        load_images(pool_of(experiment, *make(tmp_path)))
