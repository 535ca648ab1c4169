"""The picture of the README: the same photographs under networks for three sentences.

    python docs/sentences.py runs/tune/FOLDER

in:  a generator of dataset=mnist_fashion preset=named
out: docs/sentences.png; every network is generated from the names beside it alone, and none of these names is one that
     training reads. A photograph of a class that is not in a list is grey
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import neurogen
from neurogen.api.names import class_of
from neurogen.report.canvas import Figure
from neurogen.report.figures import GENERATED

SENTENCES = (
    "running shoe, satchel, the digit 7, jeans",
    "frock, neuf, parka, VIII (Roman numeral), tote",
    "sept, tennis shoe, number nine, slacks, winter boots",
)
SHOWN = ("Sneaker", "Bag", "7", "Trouser", "Dress", "9", "Coat", "8", "Ankle boot")


def main() -> None:
    """Generate a network for every sentence and draw what it says."""
    generator = neurogen.load(sys.argv[1], device="cpu")
    (task,) = generator.module.tasks
    about, test = generator.module.tasks[task], generator.dataset(task).test
    places = [int((test.labels == about.class_names.index(name)).nonzero()[3]) for name in SHOWN]
    images = test.samples[torch.tensor(places)]
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    for part, sentence in zip(figure.subfigures(len(SENTENCES), 1), SENTENCES, strict=True):
        network = generator.generate(classes=sentence)
        meanings = [class_of(name, about) for name in network.class_names]
        part.suptitle(f'"{sentence}"', fontsize=10)
        answers = zip(SHOWN, images, network.predict(images), strict=True)
        for axes, (shown, image, answer) in zip(part.subplots(1, len(SHOWN)), answers, strict=True):
            is_listed = shown in meanings
            axes.imshow(image[0], cmap="gray_r", alpha=1.0 if is_listed else 0.15)
            is_right = is_listed and meanings[network.class_names.index(answer)] == shown
            axes.set_title(answer if is_listed else " ", fontsize=8, color="black" if is_right else GENERATED)
            axes.set_axis_off()
    figure.savefig(Path(__file__).parent / "sentences.png", dpi=110)


if __name__ == "__main__":
    main()
