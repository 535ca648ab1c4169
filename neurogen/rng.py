"""Random number generators, made of names and numbers where they are used; nothing draws from a global one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seed_of(*parts: int | str) -> int:
    """A seed below 2^56. Different parts give unrelated seeds."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")


def rng_of(*parts: int | str) -> torch.Generator:
    """A fresh generator on the CPU, seeded by `seed_of(*parts)`."""
    import torch

    return torch.Generator().manual_seed(seed_of(*parts))
