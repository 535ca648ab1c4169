"""Identical samples: which there are, and how splits are kept from sharing them.

in:  samples of several splits, as pixels or texts; labels
out: of every sample the number of its group, where a group is all samples that are identical; what each split keeps;
     a class-balanced part of a split that shares no sample with the rest

Texts are identical where their words are, whatever white space stands between them; pictures where their pixels are,
after decoding and resizing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurogen.errors import UserError

DIGEST_BYTES = 16
Groups = NDArray[np.int64]  # [samples]
NOT_SHARED = {"train": ("test", "validation"), "validation": ("test",)}  # what must have no sample of these splits


@dataclass(frozen=True)
class Overlap:
    """`groups` and, of the samples that a split keeps, the `indices`, by split; what is to be said about it."""

    groups: dict[str, Groups]
    indices: dict[str, NDArray[np.int64]]
    notes: tuple[str, ...]


def groups_of(*splits: NDArray[Any]) -> list[Groups]:
    """The group of every sample of every split; the same number everywhere for identical samples."""
    numbers: dict[bytes, int] = {}
    return [
        np.array([numbers.setdefault(_digest(sample), len(numbers)) for sample in samples], dtype=np.int64)
        for samples in splits
    ]


def overlap(splits: Mapping[str, tuple[NDArray[Any], NDArray[np.int64]]], drop: bool) -> Overlap:
    """What the splits `train`, `test` and maybe `validation`, each (samples, labels), share.

    With `drop`, train keeps no sample that stands in test or validation, and validation none that stands in test.
    """
    groups = dict(zip(splits, groups_of(*(samples for samples, _ in splits.values())), strict=True))
    labels = {split: part for split, (_, part) in splits.items()}
    indices = {split: np.arange(len(part)) for split, part in groups.items()}
    notes = [*_repeats(groups), *_contradictions(groups, labels)]
    for split, others in NOT_SHARED.items():
        for other in others:
            if split not in groups or other not in groups:
                continue
            is_shared = np.isin(groups[split][indices[split]], groups[other])
            if not is_shared.any():
                continue
            done = "were taken out of it" if drop else "stay in it, as dataset.duplicates=keep says"
            notes.append(
                f"duplicates: {is_shared.sum():,} of {len(groups[split]):,} samples of {split} stand in {other} too "
                f"and {done}"
            )
            if drop:
                indices[split] = indices[split][~is_shared]
    return Overlap({split: part[indices[split]] for split, part in groups.items()}, indices, tuple(notes))


def stratified(
    labels: NDArray[np.int64], groups: Groups, fraction: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of (a fraction of every class, the rest), both in ascending order; no group is in both.

    A class with several groups gets at least one of them, where the fraction of its size is not rounded to none.
    """
    # scikit-learn's train_test_split draws other samples and rounds class sizes otherwise; every result hangs on these
    _, groups = np.unique(groups, return_inverse=True)
    selected: dict[int, bool] = {}  # by group; not in it: not decided yet
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        _select(groups[members].tolist(), round(len(members) * fraction), selected)
    is_selected = np.array([selected[group] for group in groups.tolist()])
    return np.flatnonzero(is_selected), np.flatnonzero(~is_selected)


def refuse_identical(labels: NDArray[np.int64], groups: Groups, class_names: Sequence[str]) -> None:
    """Raises UserError for a class of several samples that are all identical, so that none can be left for a test."""
    for label in np.unique(labels):
        members = groups[labels == label]
        if len(members) > 1 and len(np.unique(members)) == 1:
            name = class_names[label] if label in range(len(class_names)) else label
            raise UserError(
                f"all {len(members):,} samples of class {name} are identical, and test data must differ from training "
                "data; give more samples, or test data of its own"
            )


def _select(members: list[int], target: int, selected: dict[int, bool]) -> None:
    """Decide on the groups of a class, in the order of its members, so that about `target` members are selected."""
    sizes: dict[int, int] = {}  # of groups that are not decided yet
    num_selected = 0
    for group in members:
        if group not in selected:
            sizes[group] = sizes.get(group, 0) + 1
        num_selected += selected.get(group, False)
    for group, size in sizes.items():
        selected[group] = 2 * num_selected + size <= 2 * target  # is the target nearer with this group?
        num_selected += size * selected[group]
    if target and not num_selected and len(sizes) > 1:
        selected[min(sizes, key=lambda group: sizes[group])] = True


def _digest(sample: Any) -> bytes:
    content = " ".join(sample.split()).encode(errors="surrogatepass") if isinstance(sample, str) else sample.tobytes()
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def _repeats(groups: Mapping[str, Groups]) -> list[str]:
    """How many samples of a split repeat another one of it."""
    repeats = {split: len(part) - len(np.unique(part)) for split, part in groups.items()}
    listed = [f"{count:,} of {len(groups[split]):,} samples of {split}" for split, count in repeats.items() if count]
    return [f"duplicates: {', '.join(listed)} repeat another sample of the same split"] if listed else []


def _contradictions(groups: Mapping[str, Groups], labels: Mapping[str, NDArray[np.int64]]) -> list[str]:
    """How many samples stand with different labels."""
    pairs = np.stack([np.concatenate([part[split] for split in groups]) for part in (groups, labels)], 1)
    _, num_labels = np.unique(np.unique(pairs, axis=0)[:, 0], return_counts=True)
    count = int((num_labels > 1).sum())
    return [f"duplicates: {count:,} samples stand more than once with different labels"] if count else []
