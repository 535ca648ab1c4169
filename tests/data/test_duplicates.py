"""Identical samples: counted, taken out of training, and never cut apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurogen.config import Duplicates
from neurogen.data.duplicates import groups_of, stratified
from neurogen.data.raw import Labelled, RawSplits, load_raw, split_off_test
from neurogen.errors import UserError
from tests.conftest import Composed

FILMS = [f"film {number}" for number in range(40)]


def texts(samples: list[str], labels: list[int] | None = None) -> Labelled:
    """Texts; where nothing else is said, of two classes in turn."""
    return Labelled.of(samples, [n % 2 for n in range(len(samples))] if labels is None else labels)


def loaded(
    experiment: Composed, monkeypatch: pytest.MonkeyPatch, raw: RawSplits, duplicates: Duplicates = Duplicates.drop
) -> RawSplits:
    """What `load_raw` makes of the splits of a loader."""
    monkeypatch.setattr("neurogen.data.texts.text_table", lambda config: raw)
    config = experiment("dataset=text_table", "target=mlp", "dataset.path=none").dataset
    return load_raw(replace(config, duplicates=duplicates))


def samples(split: Labelled | None) -> set[str]:
    """The texts of a split."""
    assert split is not None
    return set(split.samples)


def test_texts_are_identical_up_to_white_space_and_pictures_in_all_pixels() -> None:
    first, second = groups_of(
        np.array(["a  film\n", "b", "a film", "A film"], dtype=object), np.array([" b", "c"], dtype=object)
    )
    assert (first.tolist(), second.tolist()) == ([0, 1, 0, 2], [1, 3])
    pixels = np.zeros((3, 1, 2, 2), dtype=np.uint8)
    pixels[1, 0, 1, 1] = 1
    assert groups_of(pixels)[0].tolist() == [0, 1, 0]


def test_what_stands_in_test_is_taken_out_of_training(experiment: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = RawSplits(
        texts(FILMS),
        texts([" film  0", "film 1", "new", "film 30"], [0, 1, 0, 0]),
        ("a", "b"),
        texts(["film 1", "film 2", "other"], [1, 0, 1]),
    )
    kept = loaded(experiment, monkeypatch, raw)
    assert samples(kept.test) == samples(raw.test)
    assert samples(kept.validation) == {"film 2", "other"}
    assert samples(kept.train) == set(FILMS) - {"film 0", "film 1", "film 2", "film 30"}
    assert kept.notes == (
        "duplicates: 3 of 40 samples of train stand in test too and were taken out of it",
        "duplicates: 1 of 40 samples of train stand in validation too and were taken out of it",
        "duplicates: 1 of 3 samples of validation stand in test too and were taken out of it",
    )


def test_duplicates_can_be_kept(experiment: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = RawSplits(texts(FILMS), texts(["film 0", "film 1"]), ("a", "b"))
    kept = loaded(experiment, monkeypatch, raw, Duplicates.keep)
    assert samples(kept.train) | samples(kept.validation) == set(FILMS)
    assert kept.notes == (
        "duplicates: 2 of 40 samples of train stand in test too and stay in it, as dataset.duplicates=keep says",
    )


def test_a_validation_split_that_is_the_test_split_is_replaced(
    experiment: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = texts(["x", "y"])
    kept = loaded(experiment, monkeypatch, RawSplits(texts(FILMS), other, ("a", "b"), other))
    assert len(kept.train) == 36
    assert samples(kept.validation) | samples(kept.train) == set(FILMS)


def test_training_data_that_is_the_test_data_is_refused(experiment: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = RawSplits(texts(FILMS), texts(FILMS), ("a", "b"))
    with pytest.raises(UserError, match=r"40 of 40 samples of train stand in test too .* leaves 0 training samples"):
        loaded(experiment, monkeypatch, raw)


def test_repeats_and_contradictions_are_said(experiment: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = RawSplits(texts([*FILMS, "film 1"]), texts(["x", "y", "y"]), ("a", "b"))
    assert loaded(experiment, monkeypatch, raw).notes == (
        "duplicates: 1 of 41 samples of train, 1 of 3 samples of test repeat another sample of the same split",
        "duplicates: 2 samples stand more than once with different labels",
    )


def test_no_split_of_one_source_shares_a_sample(experiment: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    source = texts(FILMS * 5)
    kept = loaded(experiment, monkeypatch, split_off_test(source, ("a", "b")))
    train, validation, test = (samples(split) for split in (kept.train, kept.validation, kept.test))
    assert not train & test
    assert not validation & test
    assert not train & validation
    assert (len(kept.train), len(kept.validation or ()), len(kept.test)) == (140, 20, 40)
    assert np.bincount(kept.test.labels).tolist() == [20, 20]


def test_a_class_of_identical_samples_cannot_be_cut() -> None:
    with pytest.raises(UserError, match=r"all 3 samples of class b are identical, and test data must differ"):
        split_off_test(texts(["x", "y", "z", "good", "good ", " good"], [0, 0, 0, 1, 1, 1]), ("a", "b"))


def reference(labels: np.ndarray, fraction: float, seed: int) -> list[int]:
    """The part of every class that is cut off where nothing is identical."""
    rng, selected = np.random.default_rng(seed), []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        selected += members[: round(len(members) * fraction)].tolist()
    return sorted(selected)


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    fraction=st.floats(0.01, 0.99),
    num_groups=st.integers(1, 60),
    seed=st.integers(0, 9),
)
def test_a_cut_is_balanced_and_never_through_a_group(
    labels: list[int], fraction: float, num_groups: int, seed: int
) -> None:
    array = np.array(labels)
    unlike = stratified(array, np.arange(len(array)), fraction, np.random.default_rng(seed))
    assert unlike[0].tolist() == reference(array, fraction, seed)
    groups = np.random.default_rng(seed).integers(0, num_groups, len(array))
    part, rest = stratified(array, groups, fraction, np.random.default_rng(seed))
    assert sorted([*part, *rest]) == list(range(len(array)))
    assert not set(groups[part]) & set(groups[rest])


def test_a_class_of_few_groups_still_gives_test_samples() -> None:
    labels = np.zeros(70, dtype=np.int64)
    part, _ = stratified(labels, np.repeat([0, 1], [60, 10]), 0.2, np.random.default_rng(0))
    assert part.tolist() == list(range(60, 70))
    part, _ = stratified(labels, np.repeat([0, 1], [40, 30]), 0.2, np.random.default_rng(0))  # both are far too large
    assert part.tolist() == list(range(40, 70))
