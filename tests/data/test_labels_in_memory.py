"""Labels of a program: what they are in training, and what the same labels are afterwards."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from neurogen.data.labels import Classes
from neurogen.data.labels_in_memory import as_list, indices_in_memory, indices_of
from neurogen.errors import UserError


def test_labels_in_memory_keep_their_types() -> None:
    assert indices_in_memory([[2, 0], [1]], ["a", "b", "c"], "labels") == ([[2, 0], [1]], ("a", "b", "c"), True)
    assert indices_in_memory([[20, 10], ["x"]], None, "labels") == ([[1, 0], [2]], ("10", "20", "x"), False)
    assert indices_in_memory([["10", "9"]], None, "labels") == ([[0, 1]], ("10", "9"), False)  # words, in their order
    assert indices_in_memory([[1, 2, 3]], [3, 1, 2], "labels") == ([[1, 2, 0]], ("3", "1", "2"), False)
    with pytest.raises(UserError, match="labels has 1 both as a number and as a word"):
        indices_in_memory([[1, 2], ["1"]], None, "labels")
    with pytest.raises(UserError, match="labels has the label 'z'; allowed: a, b"):
        indices_in_memory([["a", "z"]], ["a", "b"], "labels")


@pytest.mark.parametrize(
    "labels",
    [[1, 2, 3], [3, 1], [0, 1, 2], [-1, 1], ["10", "2", "1"], ["b", "a"], [True, False], ["01", "02"], [7, 3, 10]],
)
def test_the_labels_of_training_mean_the_same_afterwards(labels: list[Any]) -> None:
    (trained,), names, _ = indices_in_memory([labels], None, "labels")
    assert indices_of(labels, Classes(names, None), "labels") == trained
    for index, label in enumerate(labels):  # also of a part that lacks classes
        assert indices_of([label], Classes(names, None), "labels") == [trained[index]]


@pytest.mark.parametrize(
    ("names", "written", "labels", "indices"),
    [
        (("1", "2", "3"), None, [1, 3], [0, 2]),
        (("1", "10", "2"), None, [1, 2, 10], [0, 2, 1]),
        (("01", "02"), None, [1, "02"], [0, 1]),
        (("1", "0"), None, [1, 0], [0, 1]),
        (("3", "7"), None, ["7", 3], [1, 0]),
        (("1", "2", "3"), ("0", "1", "2"), [0, 1], [0, 1]),  # as the tables write them
        (("1", "2", "3"), ("1", "2", "3"), [1, 2], [0, 1]),
        (("a", "b"), ("1", "2"), [1, 2, "a"], [0, 1, 0]),
        (("1", "2", "x"), ("1", "2", "x"), [2, "x"], [1, 2]),
        (("neg", "pos"), ("neg", "pos"), [0, 1, "pos"], [0, 1, 1]),
        (("neg", "pos"), ("0", "1"), [0, 1], [0, 1]),
        (("a", "b"), None, [True, False], [1, 0]),
    ],
)
def test_a_whole_number_is_what_training_data_wrote_or_a_name_or_a_place(
    names: tuple[str, ...], written: tuple[str, ...] | None, labels: list[Any], indices: list[int]
) -> None:
    assert indices_of(labels, Classes(names, written), "labels") == indices


@pytest.mark.parametrize(
    ("names", "labels", "message"),
    [
        (("1", "2", "3"), [0, 1], "labels= has the label 0; allowed: 1, 2, 3"),
        (("3", "7"), [1], "labels= has the label 1; allowed: 3, 7"),
        (("0", "1"), [2], "labels= has numbers beside 0 … 1 (0, 1); give those numbers, or the names"),
        (("cat", "dog"), [-1], "labels= has numbers beside 0 … 1 (cat, dog); give those numbers, or the names"),
        (("cat", "dog"), ["Cat"], "labels= has the label 'Cat'; allowed: cat, dog"),
        (("cat", "dog"), [0.5], "labels= has the label 0.5; a label is a whole number or a word"),
        (("cat", "dog"), [[0, 1]], "labels= has the label [0, 1]; a label is a whole number or a word"),
    ],
)
def test_what_is_no_class_is_refused(names: tuple[str, ...], labels: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        indices_of(labels, Classes(names, None), "labels=")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array(["a", np.nan, "b", "a"]), "labels: 1 samples have the label nan, which is how a missing label"),
        (["a", "<NA>"], "labels: 1 samples have the label <NA>, which is how a missing label is printed; remove them"),
        (["a", ""], "labels has an empty label; mend or remove"),
        (["a", " "], "labels has an empty label"),
        (["a", "a ", "b"], "labels has the labels 'a' (1 samples) and 'a ' (1), which differ only in case, blanks"),
        (["a", "A"], "write one of them, or list both in class_names"),
        (["caf\u00e9", "cafe\u0301"], "which differ only in case, blanks or invisible signs"),
    ],
)
def test_labels_that_may_be_missing_or_the_same_are_refused_as_in_tables(labels: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        indices_in_memory([sorted(as_list(labels))], None, "labels")
    assert message in str(caught.value)
    listed = sorted(set(as_list(labels)))
    if all(name.strip() for name in listed) and "a " not in listed:
        assert indices_in_memory([listed], listed, "labels")[1] == tuple(listed)


@pytest.mark.parametrize("names", [{"dog": 1, "cat": 0}, {0: "cat", 1: "dog"}, {"cat", "dog"}, "ab,c", 5])
def test_names_without_an_order_are_refused(names: Any) -> None:
    with pytest.raises(UserError, match=rf"class_names is a {type(names).__name__}; give a list of the names, in the"):
        indices_in_memory([[0, 1]], names, "labels")


def test_names_of_another_type_are_refused() -> None:
    for names in ([["a"], ["b"]], [1.0, 2.0], [None, "b"], np.eye(2)):
        with pytest.raises(UserError, match=r"class_names has .*; a name is a word or a whole number"):
            indices_in_memory([[0, 1]], names, "labels")


def test_names_may_come_from_anything_that_has_an_order() -> None:
    for names in (["a", "b"], np.array(["a", "b"]), iter("ab"), {"a": 0, "b": 1}.keys()):
        assert indices_in_memory([[0, 1]], names, "labels") == ([[0, 1]], ("a", "b"), True)


@pytest.mark.parametrize(
    "labels", [None, 3, "abc", {"a": 1}, {1, 2}, np.array(3), torch.tensor(3), torch.eye(2).to_sparse()]
)
def test_what_holds_no_labels_is_named_by_its_type(labels: Any) -> None:
    with pytest.raises(UserError, match=rf"^labels= are a {type(labels).__name__}; give a list or an array"):
        as_list(labels, "labels=")


def test_labels_are_numbers_and_words_of_python() -> None:
    for labels in ([1, 2], np.array([1, 2]), torch.tensor([1, 2]), list(torch.tensor([1, 2])), (n for n in (1, 2))):
        assert [(type(label), label) for label in as_list(labels)] == [(int, 1), (int, 2)]
    assert as_list([np.str_("a"), torch.tensor([3]), [1, 2]]) == ["a", 3, [1, 2]]
