"""A digest of any object that can be pickled, by its content: the same in every process.

Pickle writes a set in the order in which Python walks through it, which depends on a number that every process draws
(PYTHONHASHSEED), of a tensor the place in memory, and of functions and classes the names. Here all are written as what
they hold.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

Describe = Callable[[Any], str]


def content_digest(value: Any, describe: Describe) -> str:
    """64 hexadecimal digits. Raises what pickle raises for an object that it cannot write.

    `describe` gives the text that stands for a function or a class.
    """
    return _digest(value, describe, {})


def _digest(value: Any, describe: Describe, seen: dict[int, object]) -> str:
    file = io.BytesIO()
    _Pickler(file, describe, seen).dump(value)
    return hashlib.sha256(file.getvalue()).hexdigest()


class _Pickler(pickle.Pickler):
    """pickle asks `persistent_id` first of all, and writes what it returns in place of the object."""

    def __init__(self, file: io.BytesIO, describe: Describe, seen: dict[int, object]) -> None:
        """`seen` are the sets around the object, which may hold it again, by their ids."""
        super().__init__(file)
        self.describe, self.seen = describe, dict(seen)

    def persistent_id(self, value: Any) -> Any:
        """None for what pickle writes itself."""
        if isinstance(value, (FunctionType, type)):
            return self.describe(value)
        if isinstance(value, (set, frozenset)):
            return self._of_set(value)
        if isinstance(value, Tensor) and value.layout == torch.strided:
            plain = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            return type(value), str(value.dtype), tuple(value.shape), value.requires_grad, plain.numpy().tobytes()
        return None

    def _of_set(self, value: set[Any] | frozenset[Any]) -> Any:
        if id(value) in self.seen:
            return "a set that was written before"
        self.seen[id(value)] = value  # kept alive, since Python gives the place of what is gone to the next object
        return (
            type(value),
            sorted(_digest(member, self.describe, self.seen) for member in value),
            getattr(value, "__dict__", None),
        )
