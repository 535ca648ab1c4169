"""What goes from the CPU to another device, counted without one.

The device `meta` keeps shapes and no values. What asks it for a value, and so would make the CPU wait for a GPU, fails.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")


class Copies(TorchDispatchMode):
    """Inside, remembers how many numbers each tensor had that came from the CPU into an operation on META."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.device == META:
            given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
            self.sizes += [value.numel() for value in given if value.device != META and value.dim()]
        return result
