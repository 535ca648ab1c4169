"""`make bench`: what a user waits for, as ratios measured side by side, in turn, median of several pairs.

python -m tests.bench [--pairs 7]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table

from neurogen.config import Experiment
from neurogen.data.dataset import load_images
from neurogen.experiment import experiment_from
from neurogen.progress import Progress
from neurogen.run import conf_folder
from neurogen.targets.fitting import initialised, side_by_side, train_network
from neurogen.training.runtime import runtime_here
from tests.conftest import TINY

BARE = """
import hydra
@hydra.main(version_base="1.3", config_path=None)
def main(config): pass
main()
"""


def seconds(command: list[str], folder: Path) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - started


def paired(what: str, command: list[str], against: str, other: list[str], folder: Path, pairs: int) -> tuple[str, ...]:
    """A row: both medians, and the median of the ratios and of the differences pair by pair."""
    measured = [(seconds(command, folder), seconds(other, folder)) for _ in range(pairs)]
    ours, theirs = (statistics.median(column) for column in zip(*measured, strict=True))
    ratio = statistics.median(a / b for a, b in measured)
    return what, f"{ours:.2f} s", against, f"{theirs:.2f} s", f"{ratio:.2f}", f"{pairs}"


def zoo_side_by_side(pairs: int) -> tuple[str, ...]:
    """Two LeNets on one thread each at once, against one after the other on all threads."""
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        experiment: Experiment = experiment_from(compose("config", ["zoo.training.epochs=2"]))
    dataset, runtime = load_images(experiment.dataset), runtime_here("cpu")
    numbers = list(range(2))

    def train(number: int) -> None:
        with Progress("", 2, "epochs") as silent:
            network = initialised(experiment.target, dataset, number)
            train_network(network, dataset, experiment.zoo.training, number, runtime, silent)

    def timed(work) -> float:  # type: ignore[no-untyped-def]
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    measured = []
    for _ in range(pairs):
        ours = timed(lambda: side_by_side(train, numbers, runtime))
        measured.append((ours, timed(lambda: [train(number) for number in numbers])))
    ours, theirs = (statistics.median(column) for column in zip(*measured, strict=True))
    ratio = statistics.median(a / b for a, b in measured)
    what = f"2 LeNets, 2 epochs, side by side on {torch.get_num_threads()} threads"
    return what, f"{ours:.2f} s", "one after the other", f"{theirs:.2f} s", f"{ratio:.2f}", f"{pairs}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    pairs = parser.parse_args().pairs
    run = [sys.executable, "-m", "neurogen.run"]
    table = Table(title="python -m tests.bench", title_justify="left")
    for column in ("what", "median", "against", "median", "ratio", "pairs"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bare.py").write_text(BARE)
        bare = [sys.executable, "bare.py", "--cfg", "job"]
        seconds([*run, *TINY], folder)  # finished once, shown from then on
        rows = [
            paired("neurogen.run --cfg job", [*run, "--cfg", "job"], "a bare Hydra program", bare, folder, pairs),
            paired("neurogen.run --help", [*run, "--help"], "a bare Hydra program", bare, folder, pairs),
            paired("a finished run, again", [*run, *TINY], "a bare Hydra program", bare, folder, pairs),
            zoo_side_by_side(pairs),
        ]
    for row in rows:
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
