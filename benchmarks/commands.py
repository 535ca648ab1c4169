"""`make bench`: what a user waits for at a terminal, as ratios, since seconds depend on the machine.

    python -m benchmarks.commands [--pairs 7]

in:  for every row two pieces of work, which run in turn: one of the program's, and what it is compared with
out: a table with both medians, and the median of the ratios pair by pair
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table

from benchmarks.setting import TINY
from neurogen.config import Experiment
from neurogen.data.dataset import load_images
from neurogen.experiment import experiment_from
from neurogen.progress import Progress
from neurogen.run import conf_folder
from neurogen.study.results import Curve
from neurogen.targets.fitting import initialised, side_by_side, train_networks
from neurogen.targets.prediction import Batches
from neurogen.training.runtime import runtime_here

HYDRA_ALONE = """
import hydra
@hydra.main(version_base="1.3", config_path=None)
def main(config): pass
main()
"""

RUN = [sys.executable, "-m", "neurogen.run"]
FINISHED_RUN = [*RUN, *TINY, "device=cpu", "num_threads=1"]
NUM_NETWORKS = 2
NUM_POINTS = 300

Work = Callable[[], object]


def main() -> None:
    """Measures every pair of commands and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    pairs = parser.parse_args().pairs
    table = Table(title="python -m benchmarks.commands", title_justify="left")
    for column in ("what", "median", "against", "median", "ratio", "pairs"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bare.py").write_text(HYDRA_ALONE, encoding="utf-8")
        bare = "a bare Hydra program", command([sys.executable, "bare.py", "--cfg", "job"], folder)
        finished = command(FINISHED_RUN, folder)
        finished()  # from now on it has nothing to do but to show its table
        table.add_row(*row("neurogen.run --cfg job", command([*RUN, "--cfg", "job"], folder), *bare, pairs))
        table.add_row(*row("neurogen.run --help", command([*RUN, "--help"], folder), *bare, pairs))
        table.add_row(*row("a finished run, again", finished, *bare, pairs))
        command([*FINISHED_RUN, "-m"], folder)()  # the same as a sweep, since status knows only those
        table.add_row(*row("neurogen.status", command([sys.executable, "-m", "neurogen.status"], folder), *bare, pairs))
        point = "one point, dry run", dry_run(1, folder)
        table.add_row(*row(f"{NUM_POINTS} points, dry run", dry_run(NUM_POINTS, folder), *point, pairs))
    side_by_side_work, in_turn = zoo_trainings()
    what = f"{NUM_NETWORKS} LeNets, 2 epochs, side by side on {torch.get_num_threads()} threads"
    table.add_row(*row(what, side_by_side_work, "one after the other", in_turn, pairs))
    Console().print(table)


def command(words: list[str], folder: Path) -> Work:
    """The work of running a command in `folder`."""
    return partial(subprocess.run, words, cwd=folder, check=True, capture_output=True)


def dry_run(num_points: int, folder: Path) -> Work:
    """The work of composing and merging this many points and printing what they would submit and cost."""
    words = [*TINY, f"seed=range(0,{num_points})", "dry_run=true", "hydra/launcher=slurm"]
    return command([*RUN, "-m", *words], folder)


def row(what: str, work: Work, baseline: str, other: Work, pairs: int) -> tuple[str, ...]:
    """A row of the table: `work` and `other` measured in turn."""
    measured = [(seconds_of(work), seconds_of(other)) for _ in range(pairs)]
    median, other_median = (statistics.median(column) for column in zip(*measured, strict=True))
    ratio = statistics.median(seconds / other_seconds for seconds, other_seconds in measured)
    return what, f"{median:.2f} s", baseline, f"{other_median:.2f} s", f"{ratio:.2f}", str(pairs)


def seconds_of(work: Work) -> float:
    """The wall clock time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def zoo_trainings() -> tuple[Work, Work]:
    """LeNets on one thread each at the same time, and one after the other on all threads."""
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        experiment: Experiment = experiment_from(compose("config", ["zoo.training.epochs=2"]))
    dataset, runtime = load_images(experiment.dataset), runtime_here("cpu")
    seeds, validation = list(range(NUM_NETWORKS)), Batches(dataset.validation, runtime.device)

    def train(seeds: list[int]) -> list[Curve]:
        networks = [initialised(experiment.target, dataset, seed) for seed in seeds]
        with Progress("zoo", experiment.zoo.training.epochs * len(seeds), "epochs") as progress:
            return train_networks(
                networks, dataset.train, validation, experiment.zoo.training, seeds, runtime, progress
            )

    def one_after_the_other() -> None:
        for seed in seeds:
            train([seed])

    return partial(side_by_side, train, seeds, runtime), one_after_the_other


if __name__ == "__main__":
    main()
