"""Processes that work on one step together: a store, a process group and a watchdog for each.

in:  the placement of this process
out: a runtime whose ranks talk over gloo; DeepSpeed uses the same group, or NCCL's on GPUs

Whatever the ranks agree on between steps (stop flags, figures, who writes) goes through gloo on the CPU, also when
gradients go through NCCL.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from hpc.errors import ClusterError
from hpc.ranks.engine import ZeroEngine
from hpc.ranks.loading import end_process_group, gathered, sharded_loading, use_process_group
from hpc.ranks.placement import Placement
from hpc.ranks.watchdog import Watchdog
from hpc.ranks.zero import Zero, require_usable

if TYPE_CHECKING:
    import torch

Value = TypeVar("Value")
CONNECT_TIMEOUT_S = 300
PATIENCE = timedelta(days=7)  # ranks may wait for long while one works alone; the watchdog ends what stands still
NUM_RECORDED = "256"  # of the latest collectives; as text, for torch's flight recorder


class ProcessGroup:
    """Ranks, as neurogen's runtime wants them, for several processes."""

    def __init__(self, placement: Placement, group: Any, watchdog: Watchdog) -> None:
        self.rank, self.size, self.group, self.watchdog = placement.rank, placement.size, group, watchdog

    def broadcast(self, value: Value) -> Value:
        """Rank 0's value, on every rank."""
        import torch.distributed as dist

        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.group)
        self.watchdog.tick()
        return values[0]

    def all_gather(self, values: list[float]) -> list[list[float]]:
        """Every rank's values, by rank."""
        import torch
        import torch.distributed as dist

        local = torch.tensor(values, dtype=torch.float64)
        by_rank = [torch.empty_like(local) for _ in range(self.size)]
        dist.all_gather(by_rank, local, group=self.group)
        self.watchdog.tick()
        return [[float(value) for value in row] for row in by_rank]

    def barrier(self) -> None:
        """Wait until every rank has called this."""
        self.broadcast(None)


@contextmanager
def process_group(
    placement: Placement, device: torch.device, timeout_s: float, when_lost: Callable[[str], None]
) -> Iterator[ProcessGroup]:
    """Inside, this process is one of `placement.size` ranks.

    If a rank stands still for `timeout_s`, `when_lost` is called with a message that names it, and all ranks end.
    Raises ClusterError if the ranks do not meet or one of them is gone.
    """
    import torch.distributed as dist

    store = store_of(placement, CONNECT_TIMEOUT_S)
    watchdog = Watchdog(store, placement.rank, placement.size, timeout_s, when_lost, has_open_collective)
    os.environ.setdefault("TORCH_FR_BUFFER_SIZE", NUM_RECORDED)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=placement.rank, world_size=placement.size, timeout=PATIENCE)
    group = dist.new_group(backend="gloo", timeout=PATIENCE) if backend == "nccl" else None
    with watchdog.watching():
        try:
            yield ProcessGroup(placement, group, watchdog)
        except RuntimeError as error:  # torch raises it when a connection is closed
            gone = watchdog.gone()
            if gone:
                print(str(error).splitlines()[0], file=sys.stderr, flush=True)
                raise ClusterError(gone) from error
            raise
    watchdog.leave()
    end_process_group()


def has_open_collective() -> bool:
    """Whether this rank has begun a collective that is not over, as far as torch's flight recorder knows."""
    from torch._C import _distributed_c10d

    names = ("_dump_nccl_trace_json", "_dump_fr_trace_json")  # of NCCL; of gloo
    traces = [getattr(_distributed_c10d, name) for name in names if hasattr(_distributed_c10d, name)]
    entries = [
        entry
        for trace in traces
        for entry in json.loads(trace(includeCollectives=True, onlyActive=True)).get("entries", [])
    ]
    return not all(entry["retired"] for entry in entries)


def store_of(placement: Placement, timeout_s: float) -> Any:
    """The store that all ranks share, which rank 0 keeps. Raises ClusterError if they do not meet in time."""
    from torch.distributed import DistNetworkError, DistStoreError, TCPStore  # type: ignore[attr-defined]

    try:
        return TCPStore(
            placement.address,
            placement.port,
            placement.size,
            is_master=placement.rank == 0 and not placement.has_store,
            timeout=timedelta(seconds=timeout_s),
        )
    except (DistNetworkError, DistStoreError) as error:
        if placement.rank == 0 and "EADDRINUSE" in str(error):
            raise ClusterError(
                f"rank 0 cannot listen on port {placement.port} of {socket.gethostname()}, it is in use; set another "
                "one, cluster.environment.MASTER_PORT=…"
            ) from error
        address = f"{placement.address}:{placement.port}"
        raise ClusterError(
            f"rank {placement.rank} of {placement.size} met nobody at {address} ({error}); can the nodes reach each "
            "other there?"
        ) from error


@contextmanager
def runtime_of_ranks(
    make_runtime: Callable[[], Any],
    zero: Zero,
    placement: Placement,
    stop: Event,
    when_lost: Callable[[str], None] = lambda message: None,
) -> Iterator[Any]:
    """The runtime of this process; with ZeRO it has a process group and DeepSpeed's engine.

    `make_runtime` makes that of a single process, a dataclass with the fields ranks, engine, sharded_loading, gathered
    and stop. Raises ClusterError if there are several ranks without ZeRO, they do not meet, or one of them is lost.
    """
    require_usable(zero, placement.size)
    runtime = replace(make_runtime(), stop=stop)  # first: it has settings that a GPU in use no longer takes
    gpu = use_gpu_of(placement)
    if not zero.stage:
        yield runtime
        return
    os.environ.setdefault("DS_ACCELERATOR", runtime.device.type)
    os.environ["LOCAL_RANK"] = str(gpu)  # DeepSpeed takes it as the index of the GPU
    with process_group(placement, runtime.device, zero.rank_timeout_s, when_lost) as ranks:
        use_process_group(runtime.device, PATIENCE)
        yield replace(
            runtime,
            ranks=ranks,
            engine=partial(ZeroEngine, zero, placement.rank, placement.size),
            sharded_loading=partial(sharded_loading, zero),
            gathered=gathered,
        )


def leave(status: int) -> NoReturn:
    """End a process that was one of several ranks, whatever threads of C++ still live.

    While Python ends, it ends every thread that comes back to it from C++. Gloo's come back when they drop a tensor.
    Inside a destructor that aborts the process ("terminate called without an active exception"), so that a rank failed
    with all its work done.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def use_gpu_of(placement: Placement) -> int:
    """Choose the GPU with this process's local rank if it sees several, else the only one. Returns its index."""
    import torch

    if torch.cuda.device_count() < 2:
        return 0
    torch.cuda.set_device(placement.local_rank)
    return placement.local_rank
