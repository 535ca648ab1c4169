"""A dataset's identity changes with its data."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurogen.data import identity
from neurogen.errors import UserError
from tests.conftest import Composed
from tests.data.test_images import pictures
from tests.data.test_texts import REVIEWS, write


def test_the_identity_of_own_files_follows_their_content(experiment: Composed, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "own", {"cat": 4, "dog": 4})
    config = experiment("dataset=image_folder", f"dataset.path={folder}").dataset
    before = identity(config)
    assert identity(config) == before
    pictures(folder / "more", {"cow": 1})
    assert identity(config) != before
    with pytest.raises(UserError, match="does not exist"):
        identity(experiment("dataset=image_folder", "dataset.path=/nowhere").dataset)


def test_the_identity_of_a_hub_dataset_is_its_name(experiment: Composed) -> None:
    assert identity(experiment("dataset=sst2", "target=mlp").dataset) == "stanfordnlp/sst2"


def test_the_identity_of_a_table_follows_its_content(experiment: Composed, tmp_path: Path) -> None:
    path = write(REVIEWS, tmp_path / "reviews.csv")
    config = experiment("dataset=text_table", "target=mlp", f"dataset.path={path}").dataset
    before = identity(config)
    write(REVIEWS[:50], path)
    assert identity(config) != before
    with pytest.raises(UserError, match="does not exist"):
        identity(experiment("dataset=text_table", "target=mlp", "dataset.path=a/b").dataset)
