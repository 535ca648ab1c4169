"""The figures of the paper's Table 1, which stand beside what is measured here.

They are test accuracies in percent, one per cell and without deviations; of Qwen2-VL-7B for images, of Llama-3-8B for
texts. They are of whole datasets with all classes under their own labels, and of tasks that both stages learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neurogen.config import DatasetConfig, TargetConfig
from neurogen.study.pipeline import Evaluate


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
OPTIONS: dict[str, dict[str, Any]] = {  # of its networks; the paper does not give them, so those of conf/target
    "cnn": {"channels": [16, 32, 64]},
    "lenet": {},
    "mlp": {"hidden": 64},
    "rnn": {"hidden": 64},
}
NEAREST = {"mnist5k": "mnist", "rotten_tomatoes": "sst2"}  # a part of it; the source that it was drawn from


def published_of(evaluation: Evaluate) -> Published | None:
    """The cell of the paper's Table 1 that an evaluation is of; None for another task or another way to learn it."""
    task, inject = evaluation.task, evaluation.tune.inject
    learns_in_both_stages = inject is not None and task in inject.tasks and task in evaluation.tune.tasks
    if not learns_in_both_stages or not (_is_whole(task.dataset) and _is_default(task.target)):
        return None
    return table_1(task.dataset.name, task.target.name)


def _is_whole(dataset: DatasetConfig) -> bool:
    """Whether the task is to tell apart all classes of all samples, as the dataset has them."""
    side = dataset.size.image[-1] if dataset.size is not None and dataset.size.image is not None else None
    is_resized = dataset.resize not in (None, side)
    return not (is_resized or dataset.limit or dataset.relabel or dataset.ways or dataset.unseen)


def _is_default(target: TargetConfig) -> bool:
    return target.build == target.name and target.options == OPTIONS.get(target.name)


def table_1(dataset: str, target: str) -> Published | None:
    """The cell of this dataset, or of the paper's dataset that it is nearest to; None where there is none."""
    return TABLE_1.get((NEAREST.get(dataset, dataset), target))
