"""What ranks tell each other after a step, in a single collective, and how fast and how large the step was.

in:  the account of every rank
out: tokens per second, seconds, gigabytes, and on a GPU utilisation (MFU)
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import cache

import torch
from torch import nn

from neurogen.training.engine import Engine
from neurogen.training.history import Metrics
from neurogen.training.runtime import Ranks, Runtime


@dataclass(frozen=True)
class Account:
    """A step, as a rank tells it."""

    loss: float  # mean over its contexts
    num_tokens: float
    seconds: float
    memory_gb: float  # the peak of the stage so far
    stops: float  # 1 where its stop flag is set: signals reach ranks at different times, and all stop after one step
    saves: float  # 1 where a checkpoint is due by its clock: all save when rank 0's is

    def exchanged(self, ranks: Ranks) -> list[Account]:
        """The accounts of all ranks, by rank."""
        return [Account(*values) for values in ranks.all_gather(list(astuple(self)))]


class Speed:
    """The speed of a stage's steps."""

    def __init__(self, module: nn.Module, encoder: nn.Module | None, num_passes: int, engine: Engine, runtime: Runtime):
        """`num_passes` through the module a step; its `encoder` reads pictures instead of tokens, and is left out."""
        self.peak_tflops = runtime.peak_tflops
        self.flops_per_token = 2 * num_passes * num_multiplied(module, encoder, engine)
        if runtime.device.type == "cuda" and self.peak_tflops is None and runtime.is_first:
            say_unknown(torch.cuda.get_device_name(runtime.device))

    def row_of(self, accounts: list[Account]) -> Metrics:
        """Tokens of all ranks; seconds of the slowest; memory of the rank that has most, and of every rank."""
        num_tokens = sum(account.num_tokens for account in accounts)
        slowest = max(account.seconds for account in accounts)
        memory = [account.memory_gb for account in accounts]
        row = {"tokens_per_s": num_tokens / slowest, "step_s": slowest, "memory_gb": max(memory)}
        if len(accounts) > 1:
            row |= {f"memory_gb_of_rank/{rank}": gigabytes for rank, gigabytes in enumerate(memory)}
        if self.peak_tflops is not None:
            row["mfu"] = self.flops_per_token * num_tokens / slowest / (self.peak_tflops * 1e12 * len(accounts))
        return row


@cache  # said once
def say_unknown(card: str) -> None:
    """That utilisation is not measured on this card."""
    print(f"  no MFU: the peak of {card} is not in neurogen/training/cards.py", flush=True)


def num_multiplied(module: nn.Module, encoder: nn.Module | None, engine: Engine) -> int:
    """The number of parameters that every token is multiplied with: all except embedding tables and the encoder."""
    tables = [part for part in module.modules() if isinstance(part, nn.Embedding)]
    left_out = [*tables, encoder] if encoder is not None else tables
    others = {id(value) for part in left_out for value in part.parameters()}
    return sum(engine.numel(value) for value in module.parameters() if id(value) not in others)
