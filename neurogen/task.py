"""What a generator has to know of a task: the data's shape and classes, the target's layout, its weights' units."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from neurogen.config import DatasetConfig, TargetConfig, task_name
from neurogen.data.dataset import Dataset, DataShape, Split
from neurogen.networks import build_network
from neurogen.parameters import ParameterLayout, Scale
from neurogen.prompts import task_instruction


@dataclass(frozen=True)
class TaskDescription:
    """One task t (paper 3.2) as it is saved with a generator, which may know several."""

    dataset: DatasetConfig
    target: TargetConfig
    class_names: tuple[str, ...]
    shape: DataShape
    image_mean: Float[Tensor, "channels 1 1"]
    image_std: Float[Tensor, "channels 1 1"]
    fingerprint: str  # of the dataset that it was trained on
    scale: Scale

    @staticmethod
    def of(dataset: Dataset, config: DatasetConfig, target: TargetConfig, scale: Scale) -> TaskDescription:
        mean, std = dataset.train.mean, dataset.train.std
        return TaskDescription(
            config, target, dataset.class_names, dataset.shape, mean, std, dataset.fingerprint, scale
        )

    @property
    def name(self) -> str:
        return task_name(self.dataset, self.target)

    @property
    def instruction(self) -> str:
        return task_instruction(self.target.title, self.dataset.title)

    @property
    def layout(self) -> ParameterLayout:
        return self.scale.layout

    def network(self) -> nn.Module:
        return build_network(self.target, self.shape)


@dataclass(frozen=True)
class Context:
    """D_sub as the backbone reads it: a few images and the names of their classes."""

    images: Float[Tensor, "samples channels height width"]
    labels: tuple[str, ...]

    @staticmethod
    def of(split: Split, class_names: tuple[str, ...], index: Int64[Tensor, " samples"]) -> Context:
        return Context(split.inputs(index), tuple(class_names[label] for label in split.labels[index].tolist()))

    @staticmethod
    def sample(split: Split, class_names: tuple[str, ...], num_samples: int, random: torch.Generator) -> Context:
        """Samples drawn without repetition; all of them where there are fewer."""
        return Context.of(split, class_names, split.sample(num_samples, random))
