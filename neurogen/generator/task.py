"""What a generator has to know of a task: the data's shape and classes, the target's layout, its weights' units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from neurogen.config import DatasetConfig, GeneratorConfig, TargetConfig, task_name
from neurogen.data.dataset import Dataset, Split
from neurogen.data.preparation import PADDING, DataShape, ImageShape, Normalisation, TokenEmbedding
from neurogen.errors import UserError
from neurogen.generator.prompts import task_instruction
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale


@dataclass(frozen=True)
class Task:
    """One task t (paper 3.2) as it is saved with a generator, which may know several."""

    dataset: DatasetConfig
    target: TargetConfig
    class_names: tuple[str, ...]
    shape: DataShape
    preparation: Normalisation | TokenEmbedding
    fingerprint: str  # of the dataset that it was trained on
    scale: Scale

    @staticmethod
    def of(dataset: Dataset, config: DatasetConfig, target: TargetConfig, scale: Scale) -> Task:
        return Task(config, target, dataset.class_names, dataset.shape, dataset.preparation, dataset.fingerprint, scale)

    @property
    def name(self) -> str:
        return task_name(self.dataset, self.target)

    @property
    def instruction(self) -> str:
        return task_instruction(self.target.title, self.dataset.title)

    def reads_like(self, other: Task) -> bool:
        """Whether samples of the one can stand where those of the other do: both images of one shape, or both texts. A
        vision backbone could read images of any shape; it is not asked to."""
        shapes = image_shapes({"self": self, "other": other})
        return shapes.get("self") == shapes.get("other")

    @property
    def layout(self) -> ParameterLayout:
        return self.scale.layout

    def network(self) -> nn.Module:
        return build_network(self.target, self.shape)


def image_shapes(tasks: Mapping[str, Task]) -> dict[str, ImageShape]:
    """Of the tasks whose samples are images; how many classes they have is not seen in them."""
    shapes = {name: task.shape for name, task in tasks.items()}
    return {name: replace(shape, num_classes=0) for name, shape in shapes.items() if isinstance(shape, ImageShape)}


@dataclass(frozen=True)
class Context:
    """D_sub as the backbone reads it: a few raw samples, images or token ids, and the names of their classes."""

    samples: UInt8[Tensor, "samples channels height width"] | Int64[Tensor, "samples tokens"]
    labels: tuple[str, ...]
    preparation: Normalisation | TokenEmbedding  # of the dataset that they are from

    @staticmethod
    def of(split: Split, class_names: tuple[str, ...], index: Int64[Tensor, " samples"]) -> Context:
        labels = tuple(class_names[label] for label in split.labels[index].tolist())
        return Context(split.samples[index], labels, split.preparation)

    @staticmethod
    def first(
        split: Split, class_names: tuple[str, ...], index: Int64[Tensor, " samples"], config: GeneratorConfig
    ) -> Context:
        """Of these samples those that the generator reads."""
        return Context.of(split, class_names, read_of(split, index, config))

    @staticmethod
    def sample(split: Split, class_names: tuple[str, ...], config: GeneratorConfig, random: torch.Generator) -> Context:
        """Samples drawn without repetition; all of them where there are fewer."""
        return Context.first(split, class_names, split.sample(len(split), random), config)

    @property
    def texts(self) -> list[Int64[Tensor, " tokens"]]:
        """The token ids of every text, without padding."""
        return [ids[ids != PADDING] for ids in self.samples]


def read_of(split: Split, index: Int64[Tensor, " samples"], config: GeneratorConfig) -> Int64[Tensor, " read"]:
    """The first of these samples, as many as the generator reads; where it reads them class by class, as many of every
    class. Raises UserError where they are too few for that."""
    count = config.context_samples
    if config.order != "interleaved":
        return index[:count]
    labels = split.labels[index]
    classes = split.labels.unique()
    if 0 < count < len(classes):
        raise UserError(
            f"generator.order=interleaved reads samples of every class, and there are {len(classes)}; set "
            f"generator.context_samples={2 * len(classes)} (now {count})"
        )
    return torch.cat([index[labels == label][: count // len(classes)] for label in classes])
