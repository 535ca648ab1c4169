"""A small experiment with classes that are shown: digits are named, characters show how, and others are the test."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neurogen.data.arrays import store_splits
from neurogen.data.raw import Labelled

SIDE = 8
MARKS = ("corner", "middle", "frame")


def words_for(folder: Path, names: tuple[str, ...] = MARKS) -> list[str]:
    """The words of the experiment; its test data lies in `folder`."""
    path = store_splits({"train": marks(40, 0), "test": marks(10, 1)}, names, folder)
    return [
        "preset=few_shot",
        "dataset=digits",
        "dataset@few_shot.test=arrays",
        f"few_shot.test.path={path}",
        f"few_shot.data.resize={SIDE}",
        "few_shot.data.glyphs={num_classes: 12, num_parts: 3, samples_per_class: 10}",
        "few_shot.episodes={ways: 4, shots: [1, 2], queries: 2}",
        "few_shot.test_shots=[1,3]",
        "dataset.ways=[2,4]",
        "zoo.num_networks=1",
        "zoo.training.epochs=3",
        "recipe.inject.steps=4",
        "recipe.tune.steps=2",
    ]


def marks(count: int, seed: int) -> Labelled:
    """Noisy pictures of each mark, so many of it."""
    rng = np.random.default_rng(seed)
    plain = np.zeros((len(MARKS), SIDE, SIDE))
    plain[0, :3, :3] = plain[1, 3:6, 3:6] = 200
    plain[2] = 200
    plain[2, 1:-1, 1:-1] = 0
    labels = np.arange(len(MARKS)).repeat(count)
    pictures = plain[labels] + rng.uniform(0, 50, (len(labels), SIDE, SIDE))
    return Labelled.of(pictures.astype(np.uint8)[:, None], labels)
