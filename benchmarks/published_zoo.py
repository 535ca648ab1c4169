"""The zoo on all images of a published dataset, against plain PyTorch.

    DEVICE=cpu python -m benchmarks.published_zoo [--dataset mnist] [--networks 8] [--pairs 2]

in:  the 60,000 training images of MNIST, which have to be here or within reach
out: one pass of eight LeNets as the program trains them, validation included, against a plain loop over the same
     batches, one network after the other, data on the device, without validation (rows.py)
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from benchmarks.rows import Row, publish
from benchmarks.setting import DEVICE
from benchmarks.timing import seconds_of
from benchmarks.zoo import training_of
from neurogen.config import Experiment
from neurogen.data.dataset import Dataset, load_images
from neurogen.downloads.fetch import fetch
from neurogen.fetch import sources_of
from neurogen.run import compose
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from neurogen.targets.fitting import initialised, side_by_side
from neurogen.training.runtime import runtime_here


def main() -> None:
    """Measures both in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--networks", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=2)
    arguments = parser.parse_args()
    experiment = compose([f"dataset={arguments.dataset}", "target=lenet", "zoo.training.epochs=1"])
    fetch(sources_of([step for step in in_order(steps_of([experiment])) if step.kind == "reference"]), say_all=False)
    dataset, runtime = load_images(experiment.dataset), runtime_here(DEVICE)
    seeds, train = range(arguments.networks), training_of(experiment, dataset, runtime)
    pairs = [
        (
            seconds_of(partial(side_by_side, train, seeds, runtime)),
            seconds_of(partial(plain, experiment, dataset, seeds)),
        )
        for _ in range(arguments.pairs)
    ]
    what = f"{arguments.networks} LeNets, a pass over {len(dataset.train):,} images, validation included"
    publish("published_zoo", [Row.of_pairs(what, "a plain loop, one after the other", pairs)])


def plain(experiment: Experiment, dataset: Dataset, seeds: Sequence[int]) -> None:
    """A pass of each network over the training data, as anybody would write it."""
    train, training = dataset.train.to(torch.device(DEVICE)), experiment.zoo.training
    for seed in seeds:
        network = initialised(experiment.target, dataset, seed).to(DEVICE)
        optimizer = torch.optim.AdamW(network.parameters(), training.lr)
        for index in torch.randperm(len(train), device=DEVICE).split(training.batch_size):
            optimizer.zero_grad()
            inputs, labels = train.batch(index)
            nn.functional.cross_entropy(network(inputs), labels).backward()
            optimizer.step()


if __name__ == "__main__":
    main()
