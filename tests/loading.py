"""One process, or one rank: how much memory the loading of a backbone takes at its peak. Started by torchrun, or alone.

python -m tests.loading zero=none backbone=… …
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from threading import Event

import peft  # noqa: F401  (before the measurement, as all other imports)
from hydra import compose, initialize_config_dir
from transformers.models.llama import modeling_llama  # noqa: F401

from hpc.distributed import Place, runtime_of_ranks
from hpc.zero import zero_from
from neurogen.backbone import load_backbone
from neurogen.experiment import experiment_from
from neurogen.pretrained import require_usable
from neurogen.run import conf_folder, make_runtime_of


def main() -> None:
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        e = experiment_from(compose("config", ["device=cpu", "num_threads=1", *sys.argv[1:]]))
    require_usable(e.backbone)
    zero = zero_from(e.zero)
    with runtime_of_ranks(make_runtime_of(e), zero, Place.of(os.environ), Event()) as runtime:
        before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        backbone = load_backbone(e.backbone, runtime, 0)
        if runtime.ranks.size == 1:  # a file that is mapped takes no memory before it is read
            sum(float(value.detach().sum()) for value in backbone.parameters())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(f"LOADING rank {runtime.ranks.rank}: {(peak - before) / 1e6:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
