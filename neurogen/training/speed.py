"""How fast a step was and how much memory it took: tokens per second, seconds, gigabytes, utilisation of the GPU."""

from __future__ import annotations

import resource

import torch
from torch import nn

from neurogen.training.checkpoint import Metrics
from neurogen.training.engine import Engine
from neurogen.training.runtime import Runtime


def speed_of(
    module: nn.Module, passes_per_step: int, engine: Engine, num_tokens: int, seconds: float, runtime: Runtime
) -> Metrics:
    """Tokens of all ranks; seconds of the slowest; memory of the rank that has most, and with several of every rank."""
    ranks = runtime.ranks.all_gather([float(num_tokens), seconds, memory_gb(runtime.device)])
    tokens, times, memory = zip(*ranks, strict=True)
    all_tokens, slowest = sum(tokens), max(times)
    row = {"tokens_per_s": all_tokens / slowest, "step_s": slowest, "memory_gb": max(memory)}
    if len(ranks) > 1:
        row |= {f"memory_gb_of_rank/{rank}": gigabytes for rank, gigabytes in enumerate(memory)}
    if runtime.peak_tflops is not None:
        flops = 2 * passes_per_step * num_multiplied(module, engine) * all_tokens
        row["mfu"] = flops / slowest / (runtime.peak_tflops * 1e12 * len(ranks))
    return row


def num_multiplied(module: nn.Module, engine: Engine) -> int:
    """The number of parameters that every token is multiplied with: all except embedding tables."""
    tables = {id(value) for part in module.modules() if isinstance(part, nn.Embedding) for value in part.parameters()}
    return sum(engine.numel(value) for value in module.parameters() if id(value) not in tables)


def memory_gb(device: torch.device) -> float:
    """The peak memory of this process in GiB: of the GPU, or for a CPU of the host."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
