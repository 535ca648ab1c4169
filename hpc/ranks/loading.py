"""Models whose parameters are sharded among ranks, while they are loaded and read.

in:  Zero, and a process group
out: contexts, inside which a model is loaded sharded, or sharded parameters have all their values
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hpc.ranks.zero import Zero, deepspeed_config

if TYPE_CHECKING:
    import torch
    from torch import nn

MIB = 2**20
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


@contextmanager
def sharded_loading(zero: Zero, dtype: torch.dtype) -> Iterator[None]:
    """Inside, transformers loads a model sharded if the stage is 3: then no rank ever holds all of it."""
    if zero.stage != 3:
        yield
        return
    import torch
    import torch.distributed as dist
    from transformers.integrations import HfDeepSpeedConfig

    config = deepspeed_config(zero, num_batches=1, size=dist.get_world_size(), clip_norm=1.0, num_trained=0)
    config |= {"bf16": {"enabled": dtype is torch.bfloat16}}  # the number format of the shards
    mode = HfDeepSpeedConfig(config)  # transformers holds a weak reference: the mode is on while this name exists
    return_memory_above(MIB)
    try:
        yield
    finally:
        del mode
        return_memory_above(32 * MIB)


def return_memory_above(size: int) -> None:
    """Make glibc return freed blocks of at least `size` bytes to the system at once.

    By default it keeps blocks of up to 32 MiB in a heap. Shards then lie between freed blocks, so that the heap cannot
    shrink and a rank grows to the size of the whole model.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, size)


def use_process_group(device: torch.device, patience: timedelta) -> None:
    """Make DeepSpeed use the process group that exists, with the same patience, and print only warnings.

    The ranks are together now. NCCL connects them at the first collective, and a rank that came to it minutes after
    another, since it had to read a model, would find nobody.
    """
    import logging
    import warnings

    import deepspeed
    import torch
    import torch.distributed as dist
    from deepspeed.utils import groups
    from torch.distributed import distributed_c10d

    # DeepSpeed would compile a reduction that only inference needs. That takes more memory than a small job has, and a
    # killed build leaves a lock that the next one waits for without end.
    deepspeed.ops.__compatible_ops__ = {}
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")  # about DeepSpeed's calls
    deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
    group = groups._get_data_parallel_group()
    set_timeout = getattr(dist, "set_timeout", None) or distributed_c10d._set_pg_timeout  # the former only lately
    set_timeout(patience, group)
    for connected in (dist.group.WORLD, group):
        dist.all_reduce(torch.zeros(1, device=device), group=connected)


def end_process_group() -> None:
    """End it, and what DeepSpeed keeps of it, which it would take for that of the next one in this process."""
    import torch.distributed as dist

    deepspeed = sys.modules.get("deepspeed")
    if deepspeed is not None and deepspeed.comm.is_initialized():
        deepspeed.comm.destroy_process_group()
    else:
        dist.destroy_process_group()


def gathered(parameters: Sequence[nn.Parameter]) -> Any:
    """Inside, these parameters have all their values, even if they are sharded."""
    if not any(hasattr(value, "ds_id") for value in parameters):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(list(parameters))
