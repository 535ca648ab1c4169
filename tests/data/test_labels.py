"""Labels as a source writes them, and the classes that they are."""

from __future__ import annotations

from typing import Any

import pytest

from neurogen.data.labels import (
    Classes,
    agreed_names,
    classes_of,
    label_texts,
    numbered,
    telling_names,
)
from neurogen.errors import UserError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("01", "01"),
        ("1E5", "1E5"),
        (" pos ", "pos"),
        ("N/A", "N/A"),
        ("True", "True"),
        (True, "true"),
        (1, "1"),
        (1.0, "1"),
        (-1, "-1"),
        (2**60 + 1, "1152921504606846977"),
        (1e5, "100000"),
    ],
)
def test_a_label_is_its_text(value: Any, text: str) -> None:
    assert label_texts([value], "a.csv") == [text]


@pytest.mark.parametrize("missing", ["", "  \t", None, float("nan")])
def test_missing_labels_are_counted(missing: Any) -> None:
    with pytest.raises(UserError, match=r"a.csv: sample 2 \(and 1 more\) has no label"):
        label_texts(["a", missing, "b", missing], "a.csv")


@pytest.mark.parametrize("value", [0.5, float("inf"), [1], {"a": 1}, b"pos"])
def test_other_types_are_no_labels(value: Any) -> None:
    with pytest.raises(UserError, match=r"a.csv: sample 2 has the label .*; a label is a whole number or a word"):
        label_texts(["a", value], "a.csv")


def test_classes_are_whole_numbers_in_order_and_then_words() -> None:
    labels = ["10", "b", "9", "-1", "01", "a", "9", "1E5"]
    classes = classes_of({"train.csv": labels, "test.csv": ["9", "a"]}, None)
    assert classes.names == ("-1", "9", "10", "01", "1E5", "a", "b")
    assert classes.indices(labels, "train.csv") == [2, 6, 1, 0, 3, 5, 1, 4]


STARS = ("1", "2", "3")


@pytest.mark.parametrize(
    ("train", "names", "written"),
    [
        (["b", "a"], ["b", "a"], ("b", "a")),
        (["0", "1"], ["b", "a"], ("0", "1")),
        (["0", "1", "2"], STARS, ("0", "1", "2")),
        (["1", "2", "3"], STARS, STARS),
        (["0", "2"], STARS, ("0", "1", "2")),  # no star has this name
        (["3", "1"], STARS, STARS),  # no class has this number
        (["1", "0"], ["1", "0"], ("1", "0")),
        (["0"], ["0", "1"], ("0", "1")),
        (["Pos", "pos"], ["Pos", "pos"], ("Pos", "pos")),
        (["nan", "x"], ["x", "nan"], ("x", "nan")),
    ],
)
def test_named_classes_are_written_as_names_or_as_numbers(
    train: list[str], names: list[str], written: tuple[str, ...]
) -> None:
    assert classes_of({"train.csv": train}, names) == Classes(tuple(names), written)


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ({"a": ["1", "2"]}, STARS, "a has the labels 1, 2, which may be names of dataset.text.class_names (1, 2, 3)"),
        ({"a": ["a", "0"]}, ["a", "b"], "a has the label '0'; allowed: a, b"),
        ({"a": ["0", "7"]}, ["a", "b"], "a has the label '7'; allowed: 0, 1"),
        ({"a": ["01", "1"]}, ["a", "b"], "a has the label '01'; allowed: 0, 1"),
        ({"a": ["a", "B"]}, ["a", "b"], "a has the label 'B'; allowed: a, b; it differs from 'b' only in case"),
        ({"a": ["a"]}, ["a", "a"], "dataset.text.class_names has a name twice: a, a"),
        (
            {"a": ["pos", "neg", "Pos", "pos"]},
            None,
            "labels 'pos' (2 samples) and 'Pos' (1), which differ only in case",
        ),
        ({"a": ["very good", "very  good"]}, None, "'very good' (1 samples) and 'very  good' (1), which differ only"),
        ({"a": ["caf\u00e9", "cafe\u0301"]}, None, "which differ only in case, blanks or invisible signs"),
        ({"a": ["pos", "pos\u200b"]}, None, "'pos' (1 samples) and 'pos\\u200b' (1), which differ only in case"),
        ({"a": ["a", "nan", "nan"]}, None, "a: 2 samples have the label nan, which is how a missing label is printed"),
        ({"a": ["0", "1"], "b": ["-1", "-1"]}, None, "b has the label '-1'; allowed: 0, 1; 2 of 2 samples have it"),
        ({"a": ["0", "1"], "b": ["0", "2"]}, None, "b has the label '2'; allowed: 0, 1"),
        ({"a": ["x", "y"], "b": ["X"]}, None, "b has the label 'X'; allowed: x, y; it differs from 'x' only in case"),
        ({"a": [str(n) for n in range(1001)]}, None, "a has 1,001 different labels; is dataset.text.label"),
        ({"a": [str(n) for n in range(30)], "b": ["x"]}, None, "allowed: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13"),
    ],
)
def test_what_are_no_classes_is_named(labels: dict[str, list[str]], names: list[str] | None, message: str) -> None:
    with pytest.raises(UserError) as caught:
        classes_of(labels, names)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_new_table_is_read_as_the_training_data_was() -> None:
    by_number = Classes(STARS, ("0", "1", "2"))
    assert by_number.indices(["1", "2"], "new.csv") == [1, 2]
    assert by_number.indices(["0", "1", "2"], "new.csv") == [0, 1, 2]
    assert by_number.indices(["3", "2"], "new.csv") == [2, 1]  # no number of a class, so all are names
    by_name = Classes(STARS, STARS)
    assert by_name.indices(["1", "2"], "new.csv") == [0, 1]
    with pytest.raises(UserError, match=r"new.csv has the label '0'; allowed: 1, 2, 3"):
        by_name.indices(["0", "1"], "new.csv")
    unknown = Classes(("neg", "pos"), None)  # of a generator that does not say
    assert unknown.indices(["pos", "neg"], "new.csv") == [1, 0]
    assert unknown.indices(["1", "0"], "new.csv") == [1, 0]


def test_names_of_the_source_win_where_they_agree() -> None:
    assert agreed_names(None, "config", ["neg", "pos"], "hub") == ["neg", "pos"]
    assert agreed_names(["Neg", "POS"], "config", ["neg", "pos"], "hub") == ["neg", "pos"]
    assert (telling_names(["0", "1"]), telling_names(["1", "0"])) == (None, ("1", "0"))
    for names in (["pos", "neg"], ["neg"], ["bad", "good"]):
        with pytest.raises(UserError, match="hub calls its classes neg, pos, and config"):
            agreed_names(names, "config", ["neg", "pos"], "hub")
    assert numbered(["neg", "pos"]).indices(["1", "0"], "hub") == [1, 0]
