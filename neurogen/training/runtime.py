"""Where a step runs: its rank among the processes, its device, its number format, its engine, its stop flag.

This file implements one process; a cluster puts others in the places of ranks, engine and loading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from threading import Event
from typing import Protocol, TypeVar

import torch
from torch import nn

from neurogen.errors import UserError
from neurogen.training.engine import MakeEngine, SingleProcess

Value = TypeVar("Value")


class Ranks(Protocol):
    """The processes that work on one step together. All of them call the same methods in the same order."""

    rank: int
    size: int

    def broadcast(self, value: Value) -> Value:
        """Rank 0's value, on every rank."""
        ...

    def all_gather(self, values: list[float]) -> list[list[float]]:
        """Every rank's values, by rank."""
        ...

    def barrier(self) -> None:
        """Wait until every rank is here."""
        ...


class OneRank:
    rank, size = 0, 1

    def broadcast(self, value: Value) -> Value:
        return value

    def all_gather(self, values: list[float]) -> list[list[float]]:
        return [values]

    def barrier(self) -> None:
        pass


@dataclass
class Runtime:
    device: torch.device
    dtype: torch.dtype  # of the frozen backbone; what is trained stays float32
    num_threads: int  # of this process, for what runs on the CPU
    peak_tflops: float | None = None  # of one GPU, for the share of it that is used
    ranks: Ranks = field(default_factory=OneRank)
    stop: Event = field(default_factory=Event)
    engine: MakeEngine = SingleProcess
    # around the loading of a model that may be shared out among ranks, and around reading a parameter of it
    sharded_loading: Callable[[torch.dtype], AbstractContextManager[None]] = lambda dtype: nullcontext()
    whole: Callable[[Sequence[nn.Parameter]], AbstractContextManager[None]] = lambda parameters: nullcontext()

    @property
    def num_gpus(self) -> int:
        return self.ranks.size if self.device.type == "cuda" else 0

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes, and shows progress."""
        return self.ranks.rank == 0

    def alone(self) -> Runtime:
        """For the work of one process."""
        return Runtime(self.device, self.dtype, self.num_threads, self.peak_tflops, stop=self.stop)

    def any_stops(self) -> bool:
        """Whether some rank's stop flag is set: they are not told at the same moment, and stop after the same step."""
        return any(flag for (flag,) in self.ranks.all_gather([float(self.stop.is_set())]))


def runtime_here(device: str = "auto", num_threads: int = 0, peak_tflops: float | None = None) -> Runtime:
    """This process: bfloat16 on a GPU, float32 on a CPU. Raises UserError when the device is not there."""
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UserError("device=cuda, but torch sees no GPU here; use device=cpu or device=auto")
    num_threads = num_threads or torch.get_num_threads()  # torch's own choice: one per core that it may use
    torch.set_num_threads(num_threads)
    if device == "cuda" or (device == "auto" and available):
        return Runtime(torch.device("cuda"), torch.bfloat16, num_threads, peak_tflops)
    return Runtime(torch.device("cpu"), torch.float32, num_threads)
