"""Where the parameter tokens of a target stand, and where their values go.

in:  the layout of the target; where a prompt lists classes, that of a target of one class, and the number of classes
out: the sizes of the groups of tokens, the index of every token among the learned ones, the position of every parameter
     among the values of all tokens
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from neurogen.targets.parameters import ParameterLayout


@dataclass(frozen=True)
class Places:
    """Of the tokens of one target."""

    groups: list[int]  # all tokens; in the interleaved order the inner ones, then those of each row
    index: Int64[Tensor, " tokens"] | None  # None: the learned tokens in their order
    positions: Int64[Tensor, " params"]

    @staticmethod
    def of(layout: ParameterLayout, width: int) -> Places:
        """Every token is a learned one."""
        return Places(layout.groups(width), None, layout.positions(width))

    @staticmethod
    def listed(layout: ParameterLayout, width: int, num_classes: int) -> Places:
        """The tokens of the layout's only row once for every class."""
        inner, row = layout.groups(width)
        first, again = torch.arange(inner), torch.arange(inner, inner + row)
        index = torch.cat([first, again.repeat(num_classes)])
        return Places([inner, *[row] * num_classes], index, layout.with_rows(num_classes).positions(width))

    def to(self, device: torch.device) -> Places:
        """The same on a device."""
        index = None if self.index is None else self.index.to(device)
        return Places(self.groups, index, self.positions.to(device))
