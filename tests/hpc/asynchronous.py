"""A rank that waits for a collective outside of torch.distributed, as after one of NCCL's, or one that hangs.

The first rank has begun a collective and waits in its own code; the second never begins it.
"""

from __future__ import annotations

import os
import time

import torch
import torch.distributed as dist

from hpc.ranks.distributed import process_group
from hpc.ranks.placement import Placement

TIMEOUT_S = 2.0


def wait_for_result() -> None:
    while True:
        time.sleep(60)


def hang() -> None:
    while True:
        time.sleep(60)


def main() -> None:
    placement = Placement.from_environment(os.environ)
    with process_group(placement, torch.device("cpu"), TIMEOUT_S, lambda message: None):
        dist.barrier()
        if placement.rank == 0:
            dist.all_reduce(torch.ones(1), async_op=True)
            wait_for_result()
        hang()


if __name__ == "__main__":
    main()
