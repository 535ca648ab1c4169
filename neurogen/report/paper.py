"""The figures of the paper's Table 1, which stand beside what is measured here.

They are test accuracies in percent, one per cell and without deviations; of Qwen2-VL-7B for images, of Llama-3-8B for
texts.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A cell: the data by the paper's name, accuracy of classical training and of generated networks."""

    dataset: str
    classical: float
    generated: float


TABLE_1 = {
    ("mnist", "cnn"): Published("MNIST", 93.28, 97.71),
    ("svhn", "cnn"): Published("SVHN", 85.81, 63.09),
    ("cifar10", "cnn"): Published("CIFAR-10", 69.71, 50.95),
    ("mnist", "lenet"): Published("MNIST", 99.01, 92.18),
    ("svhn", "lenet"): Published("SVHN", 89.27, 63.18),
    ("cifar10", "lenet"): Published("CIFAR-10", 62.05, 32.59),
    ("sst2", "mlp"): Published("SST-2", 74.31, 72.59),
    ("snli", "mlp"): Published("SNLI", 44.59, 34.47),
    ("ag_news", "mlp"): Published("AG News", 88.42, 83.48),
    ("sst2", "rnn"): Published("SST-2", 77.63, 76.03),
    ("snli", "rnn"): Published("SNLI", 61.74, 59.27),
    ("ag_news", "rnn"): Published("AG News", 84.72, 85.14),
}
NEAREST = {"mnist5k": "mnist", "rotten_tomatoes": "sst2"}  # a part of it; the source that it was drawn from


def table_1(dataset: str, target: str) -> Published | None:
    """The cell of this dataset, or of the paper's dataset that it is nearest to; None where there is none."""
    return TABLE_1.get((NEAREST.get(dataset, dataset), target))
