"""From a job's environment to ranks that work as one: a store, a process group, a watchdog.

in:  SLURM_PROCID and SLURM_NTASKS of srun, or RANK and WORLD_SIZE of torchrun
out: neurogen's Ranks over gloo; DeepSpeed uses the same group, or NCCL's on GPUs

What is agreed on between steps (stop flags, figures, who writes) goes through gloo on the CPU, also where gradients go
through NCCL.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

from hpc.errors import ClusterError
from hpc.ranks.engine import ZeroEngine, sharded_loading, use_process_group, whole
from hpc.ranks.watchdog import Watchdog
from hpc.ranks.zero import Zero, require_installed

if TYPE_CHECKING:
    import torch

Value = TypeVar("Value")
FIRST_PORT, NUM_PORTS = 20_000, 12_000  # below those that the system gives out itself
CONNECT_TIMEOUT_S = 300


@dataclass(frozen=True)
class Place:
    """Which of how many processes this one is, and where they meet."""

    rank: int
    size: int
    local_rank: int
    address: str
    port: int
    has_store: bool = False  # torchrun's own process listens there

    @staticmethod
    def of(environment: Mapping[str, str]) -> Place:
        """One process of its own where neither srun nor torchrun started it."""
        e = environment
        if "WORLD_SIZE" in e:
            rank, size, local = int(e["RANK"]), int(e["WORLD_SIZE"]), int(e.get("LOCAL_RANK", "0"))
        elif "SLURM_PROCID" in e and "SLURM_STEP_ID" in e:
            size = int(e.get("SLURM_STEP_NUM_TASKS", e.get("SLURM_NTASKS", "1")))  # in salloc's shell the job has more
            rank, local = int(e["SLURM_PROCID"]), int(e["SLURM_LOCALID"])
        else:
            rank, size, local = 0, 1, 0
        # srun is called on the first node, and rank 0 runs there
        address = e.get("MASTER_ADDR") or e.get("SLURM_LAUNCH_NODE_IPADDR") or "127.0.0.1"
        by_job = FIRST_PORT + int(e.get("SLURM_JOB_ID", "0")) % NUM_PORTS if size > 1 else 0  # 0: any, for itself
        port = int(e.get("MASTER_PORT") or by_job)
        return Place(rank, size, local, address, port, e.get("TORCHELASTIC_USE_AGENT_STORE") == "True")


class ProcessGroup:
    """neurogen's Ranks, for several."""

    def __init__(self, place: Place, group: Any, watchdog: Watchdog) -> None:
        self.rank, self.size, self.group, self.watchdog = place.rank, place.size, group, watchdog

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

        own = torch.tensor(values, dtype=torch.float64)
        gathered = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(gathered, own, group=self.group)
        self.watchdog.tick()
        return [[float(value) for value in row] for row in gathered]

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.broadcast(None)


@contextmanager
def joined(
    place: Place, device: torch.device, timeout_s: float, when_lost: Callable[[str], None]
) -> Iterator[ProcessGroup]:
    """This process as one of `place.size`; a rank that stands still for `timeout_s` ends them all, and `when_lost` is
    told which.

    Raises ClusterError where the ranks do not meet, or one is gone.
    """
    import torch.distributed as dist

    store = _store(place)
    watchdog = Watchdog(store, place.rank, place.size, timeout_s, when_lost)
    patience = timedelta(days=7)  # ranks may wait long while one works alone; the watchdog ends what stands still
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.size, timeout=patience)
    group = dist.new_group(backend="gloo", timeout=patience) if backend == "nccl" else None
    with watchdog.watching():
        try:
            yield ProcessGroup(place, group, watchdog)
        except RuntimeError as error:  # what torch raises when a connection is closed
            gone = watchdog.gone()
            if gone:
                print(str(error).splitlines()[0], file=sys.stderr, flush=True)
                raise ClusterError(gone) from error
            raise
    watchdog.leave()
    dist.destroy_process_group()


def _store(place: Place) -> Any:
    from torch.distributed import DistNetworkError, DistStoreError, TCPStore  # type: ignore[attr-defined]

    where = f"{place.address}:{place.port}"
    try:
        return TCPStore(
            place.address,
            place.port,
            place.size,
            is_master=place.rank == 0 and not place.has_store,
            timeout=timedelta(seconds=CONNECT_TIMEOUT_S),
        )
    except (DistNetworkError, DistStoreError) as error:
        if place.rank == 0 and "EADDRINUSE" in str(error):
            raise ClusterError(
                f"rank 0 cannot listen on port {place.port} of {socket.gethostname()}, it is in use; set another one, "
                "+cluster.environment.MASTER_PORT=…"
            ) from error
        raise ClusterError(f"rank {place.rank} of {place.size} met nobody at {where} ({error})") from error


@contextmanager
def runtime_of_ranks(
    make_runtime: Callable[[], Any],
    zero: Zero,
    place: Place,
    stop: Event,
    when_lost: Callable[[str], None] = lambda message: None,
) -> Iterator[Any]:
    """neurogen's runtime for this process; of several ranks with their process group, and an engine of DeepSpeed's.

    Raises ClusterError where several ranks are started without ZeRO, do not meet, or lose one of them.
    """
    if place.size > 1 and not zero.stage:
        raise ClusterError(f"zero=none is for one process, and {place.size} were started; set zero=stage1, 2 or 3")
    require_installed(zero)
    gpu = use_gpu_of(place)
    runtime = replace(make_runtime(), stop=stop)
    if not zero.stage:
        yield runtime
        return
    os.environ.setdefault("DS_ACCELERATOR", runtime.device.type)
    os.environ.setdefault("LOCAL_RANK", str(gpu))  # DeepSpeed takes it for the number of the GPU
    with joined(place, runtime.device, zero.rank_timeout_s, when_lost) as ranks:
        use_process_group()
        yield replace(
            runtime,
            ranks=ranks,
            engine=partial(ZeroEngine, zero, place.rank, place.size),
            sharded_loading=partial(sharded_loading, zero),
            gathered=whole,
        )


def use_gpu_of(place: Place) -> int:
    """Where a process sees several GPUs, it takes that of its number on the node; else the only one. Returns which."""
    import torch

    if torch.cuda.device_count() < 2:
        return 0
    torch.cuda.set_device(place.local_rank)
    return place.local_rank
