"""Labels as a source writes them → the numbers of classes.

in:  the labels of every split; the names of the classes, where the config or the source has them
out: Classes: their names in order, and how the source writes each; labels 0 … classes − 1

A label is a text as it is written, without the blanks around it: 01 is not 1. Where a source has types, a whole number
is its decimal text and a boolean is true or false, so that 1 and "1" are one class. Without names the classes are the
labels of the training data: whole numbers in ascending order, then words in theirs.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neurogen.errors import UserError, some_of

MAX_CLASSES = 1000
WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
HIDDEN = "-1"  # what data sets with hidden or disputed labels write
MISSING = ("nan", "<na>")  # how pandas prints a missing value


@dataclass(frozen=True)
class Classes:
    """The names of the classes, and how the source writes each; `labels` is None where that is not known."""

    names: tuple[str, ...]
    labels: tuple[str, ...] | None

    def indices(self, labels: Sequence[str], where: str) -> list[int]:
        """The class of every label: as the source writes it, or else by name.

        Where it is not known how the source writes classes, these are names, or else numbers. Raises UserError for a
        label that is no class.
        """
        ways = [self.names, _numbers(self.names)] if self.labels is None else [self.labels, self.names]
        present = set(labels)
        for written in ways:
            if present <= set(written):
                index_of = {label: index for index, label in enumerate(written)}
                return [index_of[label] for label in labels]
        closest = max(ways, key=lambda written: len(present & set(written)))
        unknown = sorted(present - set(closest))[0]
        raise UserError(
            f"{where} has the label {unknown!r}; allowed: {some_of(closest)}{_hint(unknown, labels, closest)}"
        )


def label_texts(values: Sequence[Any], where: str) -> list[str]:
    """Labels from cells of any type, as texts. Raises UserError, which names the row, for missing and other values."""
    labels = [_label_text(value) for value in values]
    odd = [row for row, label in enumerate(labels) if label is None]
    if odd:
        raise UserError(
            f"{where}: sample {odd[0] + 1}{_more(odd)} has the label {values[odd[0]]!r}; a label is a whole number or "
            "a word"
        )
    refuse_rows([not label for label in labels], where, "has no label")
    return [label for label in labels if label]


def refuse_rows(is_bad: Sequence[bool], where: str, complaint: str) -> None:
    """Raises UserError, with the complaint about the first bad row and the number of bad rows, where there is one."""
    rows = [row for row, bad in enumerate(is_bad) if bad]
    if rows:
        raise UserError(f"{where}: sample {rows[0] + 1}{_more(rows)} {complaint}; mend or remove it")


def classes_of(labels: Mapping[str, Sequence[str]], class_names: Sequence[str] | None) -> Classes:
    """The classes of the labels of every split, by where they stand; the training split comes first.

    Raises UserError for labels that are no classes: unknown or missing, alike but for case, of another split alone.
    """
    (where, train), *others = labels.items()
    classes = _by_themselves(Counter(train), where) if class_names is None else _named(train, class_names, where)
    for place, part in others:
        classes.indices(part, place)
    return classes


def numbered(names: Sequence[str]) -> Classes:
    """Classes that the source writes as 0, 1, …"""
    return Classes(tuple(names), _numbers(names))


def telling_names(names: Sequence[str] | None) -> tuple[str, ...] | None:
    """The names that a source has; None where they are only the numbers of the classes."""
    return None if names is None or tuple(names) == _numbers(names) else tuple(names)


def agreed_names(names: Sequence[str] | None, source: str, published: Sequence[str], where: str) -> Sequence[str]:
    """The published names, where `source` gives none or the same; names that differ only in case are the same.

    Raises UserError where the two disagree.
    """
    if names is not None and [name.casefold() for name in names] != [name.casefold() for name in published]:
        raise UserError(
            f"{where} calls its classes {some_of(published)}, and {source} {some_of(names)}; give the same names in "
            "the same order, or leave dataset.text.class_names out"
        )
    return published


def refuse_many(num_classes: int, where: str) -> None:
    """Raises UserError for more classes than a column of classes has."""
    if num_classes > MAX_CLASSES:
        raise UserError(f"{where} has {num_classes:,} different labels; is dataset.text.label the column of classes?")


def refuse_doubtful(counts: Counter[str], where: str, setting: str) -> None:
    """Raises UserError for labels that may be missing ones, or may be one class; `setting` can list them as classes."""
    for label in counts:
        if label.lower() in MISSING:
            raise UserError(
                f"{where}: {counts[label]:,} samples have the label {label}, which is how a missing label is printed; "
                f"remove them, or list all classes in {setting}"
            )
    alike: dict[str, str] = {}
    for label in counts:
        other = alike.setdefault(_plain(label), label)
        if other != label:
            raise UserError(
                f"{where} has the labels {other!r} ({counts[other]:,} samples) and {label!r} ({counts[label]:,}), "
                f"which differ only in case, blanks or invisible signs; write one of them, or list both in {setting}"
            )


def _label_text(value: Any) -> str | None:
    """The text of a label, empty where it is missing; None for what cannot be one."""
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    return None


def _by_themselves(counts: Counter[str], where: str) -> Classes:
    """The labels are the classes."""
    refuse_many(len(counts), where)
    refuse_doubtful(counts, where, "dataset.text.class_names")
    names = tuple(sorted(counts, key=_position))
    return Classes(names, names)


def _named(labels: Sequence[str], class_names: Sequence[str], where: str) -> Classes:
    """Classes with given names: labels are these names, or else 0, 1, …"""
    names, numbers, present = tuple(class_names), _numbers(class_names), set(labels)
    if len(set(names)) < len(names):
        raise UserError(f"dataset.text.class_names has a name twice: {some_of(names)}")
    refuse_many(len(names), where)
    could_be_both = present <= set(names) & set(numbers)
    if could_be_both and present != set(names) and names != numbers:
        raise UserError(
            f"{where} has the labels {some_of(sorted(present))}, which may be names of dataset.text.class_names "
            f"({some_of(names)}) or the numbers {some_of(numbers)} of these classes; write the names as words"
        )
    classes = Classes(names, numbers if present <= set(numbers) and not present <= set(names) else names)
    if not present <= set(names):
        Classes(names, None).indices(labels, where)  # numbers, or an error
    return classes


def _numbers(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(number) for number in range(len(names)))


def _position(label: str) -> tuple[bool, int, str]:
    """Whole numbers in their order come first."""
    is_whole = WHOLE.fullmatch(label) is not None
    return not is_whole, int(label) if is_whole else 0, label


def _plain(label: str) -> str:
    """A label without case, blanks, invisible signs and the form of its letters (é may be one sign or two)."""
    signs = unicodedata.normalize("NFC", label).casefold()
    return "".join(sign for sign in signs if not sign.isspace() and unicodedata.category(sign) != "Cf")


def _hint(label: str, labels: Sequence[str], allowed: Sequence[str]) -> str:
    """What an unknown label probably is."""
    count = sum(other == label for other in labels)
    if label == HIDDEN:
        return (
            f"; {count:,} of {len(labels):,} samples have it: hidden labels are often written so; give labelled data, "
            "or leave this split out"
        )
    alike = [name for name in allowed if _plain(name) == _plain(label)]
    return f"; it differs from {alike[0]!r} only in case, blanks or invisible signs" if alike else ""


def _more(rows: Sequence[int]) -> str:
    return f" (and {len(rows) - 1:,} more)" if len(rows) > 1 else ""
