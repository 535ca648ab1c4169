"""One process twice, or one rank: the backbone that it loads, and how long its groups wait for the other ranks.

python -m tests.hpc.groups zero=stage3_offload backbone=… …
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from functools import partial
from threading import Event
from typing import Any

import torch
import torch.distributed as dist

from hpc.ranks.distributed import runtime_of_ranks
from hpc.ranks.placement import Placement
from hpc.ranks.zero import zero_from
from neurogen.generator.loading import load_backbone
from neurogen.program import runtime_from, settings_of
from neurogen.run import compose


def main() -> None:
    e, placement = compose(["device=cpu", "num_threads=1", *sys.argv[1:]]), Placement.from_environment(os.environ)
    for _ in range(1 if placement.size > 1 else 2):
        make_runtime = partial(runtime_from, settings_of(e))
        with runtime_of_ranks(make_runtime, zero_from(e.zero), placement, Event()) as runtime:
            backbone, digest = load_backbone(e.backbone, runtime, 0), hashlib.sha256()
            for value in backbone.parameters():
                with runtime.gathered([value]):
                    digest.update(value.detach().numpy().tobytes())
            days = [timeout_of(group) for group in groups()] if dist.is_initialized() else []
            print("GROUPS", json.dumps([placement.rank, digest.hexdigest(), days]), flush=True)


def groups() -> list[Any]:
    from deepspeed.utils import groups

    return [dist.group.WORLD, groups._get_data_parallel_group()]


def timeout_of(group: Any) -> int:
    return int(group._get_backend(torch.device("cpu")).options._timeout.days)


if __name__ == "__main__":
    main()
