"""Random number generators, seeded by names and numbers where they are used. Nothing draws from a global one.

in:  the parts of a seed, such as (experiment seed, "tune", step)
out: a seed, or a torch.Generator on the CPU
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seed_of(*parts: int | str) -> int:
    """A seed below 2^56. Other parts give an unrelated seed."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")


def rng_of(*parts: int | str) -> torch.Generator:
    """A fresh generator on the CPU, seeded by `seed_of(*parts)`."""
    import torch

    return torch.Generator().manual_seed(seed_of(*parts))
