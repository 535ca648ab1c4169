"""Where a step runs: its rank among the processes, its device, its number format, its engine, its stop flag.

This file implements one process; a cluster's runtime satisfies the same contract from outside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event

import torch

from neurogen.config import StageConfig
from neurogen.engine import Engine, SingleProcess, Trainables
from neurogen.errors import UserError


@dataclass
class Runtime:
    device: torch.device
    dtype: torch.dtype  # of the frozen backbone; what is trained stays float32
    num_threads: int  # of this process, for what runs on the CPU
    world_size: int = 1
    stop: Event = field(default_factory=Event)
    engine: Callable[[Trainables, StageConfig], Engine] = SingleProcess

    @property
    def num_gpus(self) -> int:
        return self.world_size if self.device.type == "cuda" else 0


def runtime_here(device: str = "auto", num_threads: int = 0) -> Runtime:
    """This process: bfloat16 on a GPU, float32 on a CPU. Raises UserError when the device is not there."""
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UserError("device=cuda, but torch sees no GPU here; use device=cpu or device=auto")
    num_threads = num_threads or torch.get_num_threads()  # torch's own choice: one per core that it may use
    torch.set_num_threads(num_threads)
    if device == "cuda" or (device == "auto" and available):
        return Runtime(torch.device("cuda"), torch.bfloat16, num_threads)
    return Runtime(torch.device("cpu"), torch.float32, num_threads)


def seed_of(*parts: int | str) -> int:
    """A seed for torch.Generator from names and numbers; different parts, unrelated seeds."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")


def generator_of(*parts: int | str) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(*parts))
