"""Seconds of pieces of work that are measured in turn, so that a machine that slows down slows all of them.

in:  functions by name
out: of each the median, the fastest and the slowest call, and the most memory that it held on the GPU
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from benchmarks.setting import ON_GPU

WARM_UP = 2

Work = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Wall clock times of n calls."""

    n: int
    median_s: float
    min_s: float
    max_s: float
    peak_gb: float | None  # allocated on the GPU; None on a CPU


def timed(works: Mapping[str, Work], repeats: int = 5, share: int = 1) -> dict[str, Timing]:
    """Every work `repeats` times, in turn, after two warm-ups. `share`: how many equal parts a call consists of; the
    seconds are those of a part."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    peaks: dict[str, float] = {}
    for turn in range(-WARM_UP, repeats):
        for name, work in works.items():
            if ON_GPU:
                torch.cuda.reset_peak_memory_stats()
            elapsed = seconds_of(work)
            if turn >= 0:
                seconds[name].append(elapsed / share)
            if ON_GPU:
                peaks[name] = torch.cuda.max_memory_allocated() / 2**30
    return {
        name: Timing(repeats, statistics.median(values), min(values), max(values), peaks.get(name))
        for name, values in seconds.items()
    }


def seconds_of(work: Work) -> float:
    """Until the GPU has finished, too."""
    synchronize()
    started = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - started


def synchronize() -> None:
    """Waits until the GPU has done what was launched; nothing on a CPU."""
    if ON_GPU:
        torch.cuda.synchronize()
