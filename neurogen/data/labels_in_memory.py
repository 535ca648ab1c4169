"""Labels that a program hands over, numbers or words → the numbers of classes.

in:  a list, an array or a tensor of labels; the names of the classes, where they are known
out: labels 0 … classes − 1, and the names of the classes in their order

Unlike a table a program has types: the number 1 and the word "1" are not the same label.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from neurogen.data.labels import Classes, refuse_doubtful, refuse_many
from neurogen.errors import UserError, some_of

DIGITS = re.compile("-?[0-9]+")
UNORDERED = (str, bytes, Mapping, set, frozenset)  # no list, though one can iterate over it


def as_list(labels: Any, what: str = "the labels") -> list[Any]:
    """Labels in an array, a tensor or a list, as Python's own numbers and strings.

    Raises UserError for what holds no labels in an order.
    """
    try:
        values = labels.tolist() if hasattr(labels, "tolist") else labels
        if isinstance(values, UNORDERED):
            raise TypeError
        return [_plain_value(value) for value in values]
    except (TypeError, RuntimeError) as error:  # RuntimeError: of a sparse tensor
        raise UserError(
            f"{what} are a {type(labels).__name__}; give a list or an array with the label of every sample"
        ) from error


class Indices(NamedTuple):
    """What numbers or words of a program mean."""

    labels: list[list[int]]  # of every split, 0 … classes − 1
    class_names: tuple[str, ...]
    were_places: bool  # among the given names


def indices_in_memory(labels: Sequence[Sequence[Any]], class_names: Any, where: str) -> Indices:
    """The classes of the labels of every split.

    Whole numbers are names where all names are such, and all labels among them. Beside other names they are classes
    already; the caller refuses those that are out of range. Raises UserError for a label that is neither a whole number
    nor a word, is missing or unknown, or differs from another only in case or blanks, for too many classes, and for
    names that are in no order or cannot tell classes apart.
    """
    _refuse_other_types(labels, where)
    present = {label for part in labels for label in part}
    if class_names is not None:
        class_names = _in_order(class_names)
        _refuse_names([str(name) for name in class_names])
    are_names = present <= set(class_names or ()) and all(type(name) is int for name in class_names or ())
    if class_names is not None and not are_names and all(isinstance(label, int) for label in present):
        return Indices([[int(label) for label in part] for part in labels], tuple(map(str, class_names)), True)
    in_order = sorted(present, key=lambda label: (isinstance(label, str), label))
    classes = in_order if class_names is None else class_names
    refuse_many(len(classes), where)
    unknown = present - set(classes)
    if unknown:
        raise UserError(f"{where} has the label {sorted(map(str, unknown))[0]!r}; allowed: {some_of(classes)}")
    names = tuple(str(label) for label in classes)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{where} has {twice[0]} both as a number and as a word; give labels of one type")
    if class_names is None:
        if any(not name.strip() for name in names):
            raise UserError(f"{where} has an empty label; mend or remove the samples that have it")
        refuse_doubtful(Counter(str(label) for part in labels for label in part), where, "class_names")
    index_of = {label: index for index, label in enumerate(classes)}
    return Indices([[index_of[label] for label in part] for part in labels], names, False)


def indices_of(labels: Sequence[Any], classes: Classes, where: str) -> list[int]:
    """The class of every number or word of a program, for a dataset whose classes are known.

    A word is a name. A whole number is what the training data wrote for a class, or else its name; where these are
    words, it is the place 0 … classes − 1. Raises UserError for a label that is no class.
    """
    _refuse_other_types([labels], where)
    index_of: dict[Any, int] = {name: index for index, name in enumerate(classes.names)}
    places = {index: index for index in range(len(classes.names))}
    numbers = numbers_of(classes)
    index_of |= places if numbers is None else numbers
    unknown = [label for label in labels if label not in index_of]
    if unknown and not isinstance(unknown[0], str) and numbers in (None, places):
        raise UserError(
            f"{where} has numbers beside 0 … {len(places) - 1} ({some_of(classes.names)}); give those numbers, or the "
            "names"
        )
    if unknown:
        allowed = classes.names if numbers is None or isinstance(unknown[0], str) else [*numbers]
        raise UserError(f"{where} has the label {unknown[0]!r}; allowed: {some_of(allowed)}")
    return [index_of[label] for label in labels]


def numbers_of(classes: Classes) -> dict[int, int] | None:
    """The classes by the whole numbers that stand for them; None where they are words.

    These are the numbers that the source writes, or names, where all of them are numbers.
    """
    digits = [(label, index) for index, label in enumerate(classes.labels or ()) if DIGITS.fullmatch(label)]
    digits.sort(key=lambda pair: pair[0] == str(int(pair[0])))  # 1 means "1" where there is a class "01" too
    written = {int(label): index for label, index in digits}
    if written:
        return written
    named = {int(name): index for index, name in enumerate(classes.names) if DIGITS.fullmatch(name)}
    return named if len(named) == len(classes.names) else None


def _plain_value(value: Any) -> Any:
    """A number of numpy or torch as one of Python's; an array of several stays as it is, and is refused as a label."""
    is_single = getattr(value, "size", 1) == 1 if not hasattr(value, "numel") else value.numel() == 1
    return value.item() if is_single and hasattr(value, "item") else value


def _in_order(class_names: Any) -> list[Any]:
    """The names as a list. Raises UserError for what is no list or has no order of its own, and for other members."""
    if isinstance(class_names, UNORDERED) or not hasattr(class_names, "__iter__"):
        raise UserError(
            f"class_names is a {type(class_names).__name__}; give a list of the names, in the order of the numbers 0, "
            "1, … that the labels are"
        )
    names = [_plain_value(name) for name in class_names]
    odd = [name for name in names if not isinstance(name, (int, str))]
    if odd:
        raise UserError(f"class_names has {odd[0]!r}; a name is a word or a whole number")
    return names


def _refuse_other_types(labels: Sequence[Sequence[Any]], where: str) -> None:
    """Raises UserError for a label that is neither a whole number nor a word."""
    odd = [label for part in labels for label in part if not isinstance(label, (int, str))]
    if odd:
        raise UserError(f"{where} has the label {odd[0]!r}; a label is a whole number or a word")


def _refuse_names(names: Sequence[str]) -> None:
    """Raises UserError for names that cannot tell classes apart."""
    for name, count in Counter(name.strip() for name in names).items():
        if not name or count > 1:
            raise UserError(f"class_names has {f'{name!r} twice' if name else 'an empty name'}: {some_of(names)}")
