"""What a rank tries before anything hangs on it: its GPUs, and the way to the other ranks.

in:  what was asked for, and the placement of this process
out: the GPUs, or ClusterError: what does not work and what to do
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from datetime import timedelta

from hpc.errors import ClusterError
from hpc.ranks.distributed import store_of, use_gpu_of
from hpc.ranks.placement import FIRST_PORT, NUM_PORTS, Placement

SIDE = 512  # of the matrices
RETRIES_AFTER_S = 0.5
LARGEST_ERROR = 0.02  # of a product in bfloat16, relative; its numbers have 8 bits


@dataclass(frozen=True)
class Gpu:
    """A GPU that this process sees."""

    name: str
    memory_gb: float
    uuid: str  # the same for every process that sees it


def load() -> None:
    """Import torch, which takes seconds, and on a cold file system minutes."""
    import torch  # noqa: F401


def working_gpus(per_node: int, tasks_per_node: int) -> list[Gpu]:
    """Those that this process sees: all of its node, or its own where the site binds them to tasks.

    Raises ClusterError where fewer are seen than were asked for, or one does not multiply as the CPU does.
    """
    if not per_node:
        return []
    import torch

    count = torch.cuda.device_count()
    if count * tasks_per_node < per_node:
        raise ClusterError(
            f"torch sees {count} of the {per_node} GPUs that were asked for (CUDA_VISIBLE_DEVICES="
            f"{os.environ.get('CUDA_VISIBLE_DEVICES', '')}{_why_no_cuda()}); does nvidia-smi show them on that node, "
            "and is torch built for its driver?"
        )
    return [_multiplied(index) for index in range(count)]


def _why_no_cuda() -> str:
    """torch's own words; empty where CUDA begins."""
    import torch

    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # the latter if torch was built without CUDA
        return f"; {str(error).split('. ')[0]}"
    return ""


def _multiplied(index: int) -> Gpu:
    import torch

    properties = torch.cuda.get_device_properties(index)
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(SIDE, SIDE, generator=generator).bfloat16() for _ in range(2))
    expected = left.float() @ right.float()
    try:
        product = (left.to(f"cuda:{index}") @ right.to(f"cuda:{index}")).float().cpu()
    except RuntimeError as error:
        raise ClusterError(
            f"GPU {index} ({properties.name}) fails: {str(error).splitlines()[0]}; avoid the node, cluster.exclude=NODE"
        ) from error
    error_of_product = float((product - expected).norm() / expected.norm())
    if not error_of_product < LARGEST_ERROR:
        raise ClusterError(
            f"GPU {index} ({properties.name}) multiplies wrongly in bfloat16, by {error_of_product:.0%} of the result; "
            "avoid the node, cluster.exclude=NODE"
        )
    return Gpu(properties.name, properties.total_memory / 2**30, str(properties.uuid))


def meet(placement: Placement, has_gpus: bool, timeout_s: float) -> None:
    """Meet the other ranks and sum a number over all: over gloo, as ranks agree, and with GPUs over NCCL, as DeepSpeed.

    Raises ClusterError if that is not done in time.
    """
    import torch
    import torch.distributed as dist
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]

    deadline = time.monotonic() + timeout_s
    if placement.rank != 0:
        _reach_rank_0(placement, timeout_s)
    store = store_of(placement, timeout_s)
    devices = {"gloo": torch.device("cpu")}
    if has_gpus:
        devices["nccl"] = torch.device("cuda", use_gpu_of(placement))
    expected = placement.size * (placement.size + 1) // 2
    for backend, device in devices.items():
        prefixed, limit = PrefixStore(backend, store), timedelta(seconds=max(1.0, deadline - time.monotonic()))
        total = torch.tensor([placement.rank + 1.0], device=device)
        try:
            dist.init_process_group(
                backend, store=prefixed, rank=placement.rank, world_size=placement.size, timeout=limit
            )
            dist.all_reduce(total)
            reached = int(total.item())
        except RuntimeError as error:  # all of torch's errors of communication
            raise ClusterError(
                f"the ranks meet at {placement.address}:{placement.port}, but exchange nothing over {backend} "
                f"({str(error).splitlines()[0]}); name a network that all nodes share: "
                f"cluster.environment.{backend.upper()}_SOCKET_IFNAME=NAME"
            ) from error
        if reached != expected:
            raise ClusterError(f"the ranks' numbers add up to {reached} over {backend}, and not to {expected}")
        dist.destroy_process_group()


def _reach_rank_0(placement: Placement, timeout_s: float) -> None:
    """Open a connection to the store's port. torch tries as well, but may go on for long after its time is over.

    Raises ClusterError if that is not done in time.
    """
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        try:
            socket.create_connection((placement.address, placement.port), timeout=left).close()
        except OSError:  # rank 0 does not listen yet, or there is no way
            time.sleep(min(RETRIES_AFTER_S, left))
        else:
            return
    raise ClusterError(
        f"does not reach rank 0 at {placement.address}:{placement.port} within {timeout_s:.0f} s; let the nodes "
        f"reach each other at the ports {FIRST_PORT}-{FIRST_PORT + NUM_PORTS - 1}, or let the ranks meet "
        "elsewhere: cluster.environment.MASTER_ADDR=…, MASTER_PORT=…"
    )
