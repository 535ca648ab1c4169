"""Random number generators, seeded by names and numbers where they are used.

in:  the parts of a seed, such as (experiment seed, "tune", step)
out: a seed, or a torch.Generator on the CPU

What torch draws for a module's initial values, and for dropout, comes from its global generator, which all threads
share. It is used inside of `global_generator` alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_OF_ALL_THREADS = RLock()  # may be taken again inside: the builder of a target may load a model


def seed_of(*parts: int | str) -> int:
    """A seed below 2^56. Other parts give an unrelated seed."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")


def rng_of(*parts: int | str) -> torch.Generator:
    """A fresh generator on the CPU, seeded by `seed_of(*parts)`."""
    import torch

    return torch.Generator().manual_seed(seed_of(*parts))


@contextmanager
def global_generator(seed: int | None = None, devices: Sequence[torch.device] = ()) -> Iterator[None]:
    """Inside, torch's global generator draws from `seed`, for this thread alone; afterwards it is as it was before.

    `devices` are the GPUs whose generators are meant too; those of others are the user's, and stay as they are. Without
    the lock the end would also take back what another thread has drawn in the meantime.
    """
    import torch

    with _OF_ALL_THREADS, torch.random.fork_rng(list(devices)):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
            for device in devices:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
        yield
