"""Memory of the GPU, or where there is none of the host: the peak of this process, and what is free."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
from collections.abc import Iterator
from pathlib import Path

import torch

STATUS, PEAK = Path("/proc/self/status"), "VmHWM:"  # in kB
MEMINFO, OWN_GROUPS, GROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
CLEAR_REFS = Path("/proc/self/clear_refs")
PEAK_OF_PROCESS = "5"  # what Linux resets when this is written there
M_MMAP_THRESHOLD, LARGE = -3, 65_536  # of glibc's malloc.h; bytes


def peak_memory_gb(device: torch.device) -> float:
    """In GiB, since `reset_peak_memory`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if STATUS.exists():  # on Linux getrusage also counts the process that this one was started by
        lines = STATUS.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(PEAK)) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process may still take: of the GPU, or of the host; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if not MEMINFO.exists():
        return None
    lines = MEMINFO.read_text(encoding="utf-8").splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return min([free, *_limits()])


def _limits() -> Iterator[int]:
    """Of the control groups that this process is in, such as that of its SLURM job, in bytes. Of either version."""
    for line in OWN_GROUPS.read_text(encoding="utf-8").splitlines() if OWN_GROUPS.exists() else []:
        _, controllers, group = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, name = (GROUPS / "memory", "memory.limit_in_bytes") if controllers else (GROUPS, "memory.max")
        folder = top / group.lstrip("/")
        for path in (above / name for above in (folder, *folder.parents) if above.is_relative_to(top)):
            limit = path.read_text(encoding="utf-8").strip() if path.exists() else "max"
            if limit != "max":
                yield int(limit)


def reset_peak_memory(device: torch.device) -> None:
    """Begin anew. Where there is no Linux, the peak of a process without a GPU stays that since it began."""
    if device.type == "cuda" and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats(device)
    elif os.access(CLEAR_REFS, os.W_OK):
        CLEAR_REFS.write_text(PEAK_OF_PROCESS, encoding="utf-8")


def return_freed_memory() -> None:
    """From now on large arrays go back to the system as soon as they are freed.

    glibc keeps them otherwise, in pieces that the next arrays may not fit into. Where many blocks are read one after
    the other, a process then grows with every block. Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)
