"""Modules that tasks share where what they are made for is alike."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

from torch import nn

Kind = TypeVar("Kind", bound=Hashable)


def one_for_all_alike(kinds: Mapping[str, Kind], make: Callable[[Kind], nn.Module]) -> nn.ModuleDict:
    """A module for every task, the same one for tasks of equal kind. Its parameters bear the first task's name."""
    made: dict[Kind, nn.Module] = {}
    for kind in kinds.values():
        if kind not in made:
            made[kind] = make(kind)
    return nn.ModuleDict({name: made[kind] for name, kind in kinds.items()})
