"""A pool: several datasets of images as one, whose classes are those of all of them.

in:  dataset.parts, each with a loader of its own
out: RawSplits, the samples of the first part first; a class keeps its name

A generator whose contexts list classes (dataset.ways) is trained on a pool of many.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurogen.config import DatasetConfig
from neurogen.data.raw import Labelled, RawSplits
from neurogen.errors import UserError
from neurogen.experiment import named_function


def pool(config: DatasetConfig) -> RawSplits:
    """All parts as one dataset. Raises UserError as their loaders do, and where they do not fit together."""
    if not config.parts:
        raise UserError("dataset.load=pool joins datasets, and dataset.parts=[] names none; name two or more")
    names = [part.name for part in config.members]
    parts: list[RawSplits] = [named_function("dataset.load", part.load)(part) for part in config.members]
    shapes = [list(part.train.samples.shape[1:]) for part in parts]
    if any(shape != shapes[0] for shape in shapes):
        listed = "; ".join(f"{name} {shape}" for name, shape in zip(names, shapes, strict=True))
        raise UserError(
            f"dataset {config.name}: its parts have images of different shapes (channels, height, width): {listed}; "
            "set dataset.resize, and join parts of one number of channels"
        )
    _require_different([part.class_names for part in parts], names, config.name)
    firsts = np.cumsum([0, *(len(part.class_names) for part in parts)]).tolist()
    numbered = list(zip(parts, firsts, strict=False))
    train = _joined([(split, first) for part, first in numbered for split in (part.train, part.validation) if split])
    test = _joined([(part.test, first) for part, first in numbered])
    class_names = tuple(name for part in parts for name in part.class_names)
    notes = tuple(f"{name}: {note}" for name, part in zip(names, parts, strict=True) for note in part.notes)
    return RawSplits(train, test, class_names, notes=notes)


def _joined(parts: Sequence[tuple[Labelled, int]]) -> Labelled:
    """Samples one after the other; the classes of a part are numbered from its second value on."""
    samples = np.concatenate([part.samples for part, _ in parts])
    return Labelled(samples, np.concatenate([part.labels + first for part, first in parts]))


def _require_different(class_names: Sequence[Sequence[str]], parts: Sequence[str], pool_name: str) -> None:
    """Raises UserError where two parts have classes of one name."""
    seen: dict[str, str] = {}
    for part, names in zip(parts, class_names, strict=True):
        for name in names:
            if name in seen:
                raise UserError(
                    f"dataset {pool_name}: {seen[name]} and {part} both have the class {name}; join datasets whose "
                    "classes have different names"
                )
            seen[name] = part
