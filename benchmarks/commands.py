"""`make bench`: what a user waits for at a terminal, as ratios, since seconds depend on the machine.

    DEVICE=cpu python -m benchmarks.commands [--pairs 7]

in:  for every row two pieces of work, which run in turn: one of the program's, and what it is compared with
out: both medians, and the median of the ratios pair by pair (rows.py)
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch

from benchmarks.rows import Row, publish
from benchmarks.setting import TINY
from benchmarks.timing import Work, seconds_of
from benchmarks.zoo import training_of
from neurogen.data.dataset import load_images
from neurogen.run import compose
from neurogen.targets.fitting import side_by_side
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


def main() -> None:
    """Measures every pair of commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    pairs = parser.parse_args().pairs
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bare.py").write_text(HYDRA_ALONE, encoding="utf-8")
        bare = "a bare Hydra program", command([sys.executable, "bare.py", "--cfg", "job"], folder)
        finished = command(FINISHED_RUN, folder)
        finished()  # from now on it has nothing to do but to show its table
        rows.append(row("neurogen.run --cfg job", command([*RUN, "--cfg", "job"], folder), *bare, pairs))
        rows.append(row("neurogen.run --help", command([*RUN, "--help"], folder), *bare, pairs))
        rows.append(row("a finished run, again", finished, *bare, pairs))
        command([*FINISHED_RUN, "-m"], folder)()  # the same as a sweep, since status knows only those
        rows.append(row("neurogen.status", command([sys.executable, "-m", "neurogen.status"], folder), *bare, pairs))
        point = "one point, dry run", dry_run(1, folder)
        rows.append(row(f"{NUM_POINTS} points, dry run", dry_run(NUM_POINTS, folder), *point, pairs))
    side_by_side_work, in_turn = zoo_trainings()
    what = f"{NUM_NETWORKS} LeNets, 2 epochs, side by side on {torch.get_num_threads()} threads"
    rows.append(row(what, side_by_side_work, "one after the other", in_turn, pairs))
    publish("commands", rows)


def command(words: list[str], folder: Path) -> Work:
    """The work of running a command in `folder`."""
    return partial(subprocess.run, words, cwd=folder, check=True, capture_output=True)


def dry_run(num_points: int, folder: Path) -> Work:
    """The work of composing and merging this many points and printing what they would submit and cost."""
    words = [*TINY, f"seed=range(0,{num_points})", "dry_run=true", "hydra/launcher=slurm"]
    return command([*RUN, "-m", *words], folder)


def row(what: str, work: Work, against: str, other: Work, pairs: int) -> Row:
    """`work` and `other` measured in turn."""
    return Row.of_pairs(what, against, [(seconds_of(work), seconds_of(other)) for _ in range(pairs)])


def zoo_trainings() -> tuple[Work, Work]:
    """LeNets on one thread each at the same time, and one after the other on all threads."""
    experiment = compose(["zoo.training.epochs=2"])
    dataset, runtime = load_images(experiment.dataset), runtime_here("cpu")
    seeds, train = list(range(NUM_NETWORKS)), training_of(experiment, dataset, runtime)

    def one_after_the_other() -> None:
        for seed in seeds:
            train([seed])

    return partial(side_by_side, train, seeds, runtime), one_after_the_other


if __name__ == "__main__":
    main()
