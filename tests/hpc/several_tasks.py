"""One process or rank of both stages of a generator of three tasks.

python -m torch.distributed.run --nproc-per-node=2 -m tests.hpc.several_tasks zero=stage2 root=ROOT …
"""

from __future__ import annotations

import os
import sys
from threading import Event

from hydra import compose, initialize_config_dir

from hpc.ranks.distributed import runtime_of_ranks
from hpc.ranks.placement import Placement
from hpc.ranks.zero import zero_from
from neurogen.experiment import experiment_from
from neurogen.run import conf_folder
from neurogen.study.execution import in_order, run_here
from neurogen.study.graph import evaluations_of
from neurogen.training.runtime import runtime_here

# two of the same layout with images of two shapes; one of another layout, with other images of the first shape
FEWER = ["dataset.name=fewer", "dataset.title=fewer digits", "dataset.limit=600"]
TASKS = (["target=cnn_small"], ["target=cnn_small", "dataset.name=more", "dataset.resize=16"], ["target=cnn", *FEWER])


def main() -> None:
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        points = [experiment_from(compose("config", [*sys.argv[1:], "tasks=together", *task])) for task in TASKS]
    zero = zero_from(points[0].zero)
    with runtime_of_ranks(
        lambda: runtime_here("cpu", 1), zero, Placement.from_environment(os.environ), Event()
    ) as runtime:
        run_here(in_order(evaluations_of(points)[0].tune), runtime)


if __name__ == "__main__":
    main()
