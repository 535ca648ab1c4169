"""Characters that are called by what they mean: names that say which class is meant, and pictures of these classes."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from neurogen.config import DatasetConfig
from neurogen.data.dataset import load_images
from neurogen.data.identity import identity
from neurogen.data.strokes import kanjivg
from neurogen.errors import UserError
from neurogen.meanings import PACKAGES, characters_with_meanings, dictionary
from tests.conftest import Composed

FEW = {"num_classes": 12, "max_strokes": 18}
WORDS = ("dataset=kanji", "dataset.glyphs.num_classes=12", "dataset.glyphs.samples_per_class=10", "preset=named")


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def config(experiment: Composed) -> DatasetConfig:
    return experiment(*WORDS).dataset


def test_every_character_has_names_of_its_own_in_every_split() -> None:
    names = characters_with_meanings(FEW | {"num_classes": 1600})
    every = [name.casefold() for splits in names.values() for options in splits.values() for name in options]
    assert len(every) == len(set(every))
    assert all(options for splits in names.values() for options in splits.values())
    assert sum(map(len, names.values())) == 3 * 1600


def test_the_most_frequent_come_first_and_more_classes_leave_them_as_they_are() -> None:
    few, more = characters_with_meanings(FEW), characters_with_meanings(FEW | {"num_classes": 300})
    assert list(few)[:3] == ["日", "会", "大"]
    assert few == dict(islice(more.items(), 12))


def test_names_for_validation_and_test_are_english() -> None:
    names = characters_with_meanings(FEW)["日"]
    assert {"day", "sun", "Japan"} >= {*names["validation"], *names["test"]}
    assert {"jour", "soleil", "día", "Japão"} <= set(names["train"])


def test_classes_are_the_characters_that_have_names(config: DatasetConfig) -> None:
    dataset = load_images(config)
    assert dataset.class_names == tuple(config.names)
    assert (len(dataset.train) + len(dataset.validation), len(dataset.test)) == (96, 24)
    assert dataset.shape.size == (28, 28)


def test_strokes_and_meanings_are_a_part_of_the_identity(config: DatasetConfig) -> None:
    assert identity(config) == f"kanji-{kanjivg().version}-{dictionary().version}"


def test_more_than_there_are_is_one_line(experiment: Composed) -> None:
    message = (
        r"^dataset\.glyphs\.num_classes=9,000 is more than the 1,\d{3} characters of at most .*; lower the former$"
    )
    with pytest.raises(UserError, match=message):
        experiment("dataset=kanji", "preset=named", "dataset.glyphs.num_classes=9000")


@pytest.mark.parametrize("what", ["strokes", "meanings"])
def test_a_missing_package_is_named(experiment: Composed, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setitem(PACKAGES, what, "a-package-that-nobody-has")
    with pytest.raises(UserError, match=rf"^the {what} of characters are in .*; pip install 'neurogen\[kanji\]'$"):
        experiment(*WORDS, f"dataset.title={what}")


def test_a_broken_dictionary_is_named(experiment: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jamdict.db").write_bytes(b"no database at all" * 100)
    monkeypatch.setattr("neurogen.meanings.DATABASE", str(tmp_path / "jamdict.db"))
    with pytest.raises(UserError, match=r"jamdict\.db cannot be read \(file is not a database\); install the package"):
        experiment(*WORDS, "dataset.title=broken")
