"""One rank that does both stages in one process, then counts the backbones that are still in memory.

python -m torch.distributed.run --nproc-per-node=2 -m tests.hpc.kept zero=stage3 root=ROOT …
"""

from __future__ import annotations

import gc
import os
import sys
from threading import Event

from hydra import compose, initialize_config_dir

from hpc.ranks.distributed import runtime_of_ranks
from hpc.ranks.placement import Placement
from hpc.ranks.zero import zero_from
from neurogen.experiment import experiment_from
from neurogen.generator.backbone import Backbone
from neurogen.run import conf_folder
from neurogen.study.execution import in_order, run_here
from neurogen.study.graph import evaluations_of
from neurogen.training.runtime import runtime_here


def main() -> None:
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        e = experiment_from(compose("config", sys.argv[1:]))
    placement = Placement.from_environment(os.environ)
    with runtime_of_ranks(lambda: runtime_here("cpu", 1), zero_from(e.zero), placement, Event()) as runtime:
        run_here(in_order(evaluations_of([e])[0].tune), runtime)
        while gc.collect():  # what a finaliser leaves is found by the next one
            pass
        kept = [thing for thing in gc.get_objects() if isinstance(thing, Backbone)]
        holders = [type(holder).__name__ for thing in kept for holder in gc.get_referrers(thing)]
        print(f"KEPT {len(kept)} {' '.join(holders)}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
