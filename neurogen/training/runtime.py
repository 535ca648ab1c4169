"""Where a step runs: rank, device, dtype, engine, stop flag.

This module implements a single process. hpc/ranks provides ranks, engine and loading for several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from threading import Event
from typing import Protocol, TypeVar

import torch
from torch import nn

from neurogen.config import Device
from neurogen.errors import UserError, one_of
from neurogen.training.cards import peak_tflops_of
from neurogen.training.engine import BuildEngine, SingleProcess
from neurogen.training.numerics import Numerics, prepare_cublas

Value = TypeVar("Value")
BATCH_TOKENS = 2048


class Ranks(Protocol):
    """The processes that work on one step together. All of them call the same collectives in the same order."""

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


class SingleRank:
    """The collectives of a single process."""

    rank, size = 0, 1

    def broadcast(self, value: Value) -> Value:
        """The value itself."""
        return value

    def all_gather(self, values: list[float]) -> list[list[float]]:
        """The values of the only rank."""
        return [values]

    def barrier(self) -> None:
        """There is nobody to wait for."""


@dataclass
class Runtime:
    """The process that runs a step, as the step sees it."""

    device: torch.device
    dtype: torch.dtype  # of the frozen backbone; trained values are float32
    num_threads: int  # of this process on the CPU
    peak_tflops: float | None = None  # of this GPU, to measure utilisation against; None: unknown, or a CPU
    batch_tokens: int = BATCH_TOKENS  # that the backbone reads at once, at most, where there is more than one sequence
    ranks: Ranks = field(default_factory=SingleRank)
    stop: Event = field(default_factory=Event)
    numerics: Numerics = field(default_factory=Numerics)
    engine: BuildEngine = SingleProcess
    # contexts in which a model is loaded in shards, and in which sharded parameters are whole
    sharded_loading: Callable[[torch.dtype], AbstractContextManager[None]] = lambda dtype: nullcontext()
    gathered: Callable[[Sequence[nn.Parameter]], AbstractContextManager[None]] = lambda parameters: nullcontext()

    @property
    def num_gpus(self) -> int:
        """Of all ranks."""
        return self.ranks.size if self.device.type == "cuda" else 0

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes files and shows progress."""
        return self.ranks.rank == 0

    def alone(self) -> Runtime:
        """The same without the other ranks, for the work of a single process."""
        about = (self.device, self.dtype, self.num_threads, self.peak_tflops, self.batch_tokens)
        return Runtime(*about, stop=self.stop, numerics=self.numerics)

    def any_stops(self) -> bool:
        """Whether any rank's stop flag is set. Signals reach ranks at different times; all stop after the same step."""
        return any(flag for (flag,) in self.ranks.all_gather([float(self.stop.is_set())]))


def runtime_here(
    device: str = "auto", num_threads: int = 0, batch_tokens: int = BATCH_TOKENS, deterministic: bool = False
) -> Runtime:
    """A runtime for this process: the backbone in bfloat16 on a GPU, in float32 on a CPU.

    Raises UserError for another device, a negative number, and when there is no GPU or it has been used before it could
    be told to be deterministic.
    """
    one_of("device", device, tuple(Device))
    if num_threads < 0:
        raise UserError(f"num_threads={num_threads} must be at least 0, which leaves the number to torch")
    available = torch.cuda.is_available()
    if device == Device.cuda and not available:
        raise UserError("device=cuda, but torch sees no GPU here; use device=cpu or device=auto")
    num_threads = num_threads or torch.get_num_threads()  # torch's choice: one per available core
    torch.set_num_threads(num_threads)
    numerics = Numerics(deterministic)
    if device == Device.cuda or (device == Device.auto and available):
        if deterministic:
            prepare_cublas()
        peak_tflops = peak_tflops_of(torch.cuda.get_device_name())
        return Runtime(torch.device("cuda"), torch.bfloat16, num_threads, peak_tflops, batch_tokens, numerics=numerics)
    return Runtime(torch.device("cpu"), torch.float32, num_threads, None, batch_tokens, numerics=numerics)
