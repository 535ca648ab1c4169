"""One process, or one rank: the peak of its own memory while it loads a backbone. Started by torchrun, or alone.

Pages of a mapped file are not counted: the system holds them once for all processes, and drops them if memory is short.

python -m tests.hpc.loading zero=none backbone=… …
"""

from __future__ import annotations

import os
import re
import sys
from functools import partial
from pathlib import Path
from threading import Event, Thread

import peft  # noqa: F401  (before the measurement, as all other imports)
from hydra import compose, initialize_config_dir
from transformers.models.llama import modeling_llama  # noqa: F401

from hpc.ranks.distributed import runtime_of_ranks
from hpc.ranks.placement import Placement
from hpc.ranks.zero import zero_from
from neurogen.experiment import experiment_from
from neurogen.generator.loading import load_backbone
from neurogen.generator.usable import require_usable
from neurogen.program import runtime_from, settings_of
from neurogen.run import conf_folder


def main() -> None:
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        e = experiment_from(compose("config", ["device=cpu", "num_threads=1", *sys.argv[1:]]))
    require_usable(e.backbone)
    zero = zero_from(e.zero)
    make_runtime = partial(runtime_from, settings_of(e))
    with runtime_of_ranks(make_runtime, zero, Placement.from_environment(os.environ), Event()) as runtime:
        seen, over = [own_memory_mb()], Event()

        def watch() -> None:
            while not over.wait(0.002):
                seen.append(own_memory_mb())

        thread = Thread(target=watch)
        thread.start()
        backbone = load_backbone(e.backbone, runtime, 0)
        copies = [value.detach().clone() for value in backbone.parameters()] if runtime.ranks.size == 1 else []
        over.set()
        thread.join()
        peak = max(seen) - seen[0]
        print(f"LOADING rank {runtime.ranks.rank}: {peak:.0f} MB, copies {len(copies)}", flush=True)


def own_memory_mb() -> float:
    (kb,) = re.findall(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    return int(kb) / 1000


if __name__ == "__main__":
    main()
