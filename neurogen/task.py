"""What a generator has to know of a task: the data's shape and classes, the target's layout, its weights' units."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from neurogen.config import DatasetConfig, TargetConfig, task_name
from neurogen.data.dataset import Dataset, Split
from neurogen.data.preparation import PADDING, DataShape, Normalisation, TokenEmbedding
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
    preparation: Normalisation | TokenEmbedding
    fingerprint: str  # of the dataset that it was trained on
    scale: Scale

    @staticmethod
    def of(dataset: Dataset, config: DatasetConfig, target: TargetConfig, scale: Scale) -> TaskDescription:
        return TaskDescription(
            config, target, dataset.class_names, dataset.shape, dataset.preparation, dataset.fingerprint, scale
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
    """D_sub as the backbone reads it: a few raw samples, images or token ids, and the names of their classes."""

    samples: UInt8[Tensor, "samples channels height width"] | Int64[Tensor, "samples tokens"]
    labels: tuple[str, ...]

    @staticmethod
    def of(split: Split, class_names: tuple[str, ...], index: Int64[Tensor, " samples"]) -> Context:
        return Context(split.samples[index], tuple(class_names[label] for label in split.labels[index].tolist()))

    @staticmethod
    def sample(split: Split, class_names: tuple[str, ...], num_samples: int, random: torch.Generator) -> Context:
        """Samples drawn without repetition; all of them where there are fewer."""
        return Context.of(split, class_names, split.sample(num_samples, random))

    @property
    def texts(self) -> list[Int64[Tensor, " tokens"]]:
        """The token ids of every text, without padding."""
        return [ids[ids != PADDING] for ids in self.samples]
