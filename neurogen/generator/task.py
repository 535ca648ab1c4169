"""A task as a generator knows it: the data's shape and classes, the target's layout, the scale of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from neurogen.config import DatasetConfig, TargetConfig, task_name
from neurogen.data.dataset import Dataset
from neurogen.data.preparation import DataShape, ImageShape, Normalisation, TokenEmbedding
from neurogen.generator.known import KnownRows
from neurogen.generator.prompts import listing_instruction, task_instruction
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
    fingerprint: str  # of the dataset that the generator was trained on
    scale: Scale
    source_labels: tuple[str, ...] | None = None  # how the tables of the dataset write each class; None: by its name
    known: KnownRows | None = None  # where a prompt lists classes

    @staticmethod
    def of(dataset: Dataset, config: DatasetConfig, target: TargetConfig, scale: Scale) -> Task:
        """The task of a loaded dataset and a target."""
        names, fingerprint = dataset.class_names, dataset.fingerprint
        return Task(
            config, target, names, dataset.shape, dataset.preparation, fingerprint, scale, dataset.source_labels
        )

    @property
    def name(self) -> str:
        """DATASET-TARGET, unique within a generator."""
        return task_name(self.dataset, self.target)

    @property
    def instruction(self) -> str:
        """I_s2 (paper 3.4.1), or what stands before a list of classes."""
        if self.lists_classes:
            return listing_instruction(self.target.title)
        return task_instruction(self.target.title, self.dataset.title)

    @property
    def lists_classes(self) -> bool:
        """Whether a prompt lists the classes of its network, by name (dataset.ways)."""
        return self.dataset.ways is not None

    @property
    def most_listed(self) -> int | None:
        """How many classes a prompt may list; None where it lists none."""
        return None if self.dataset.ways is None else max(self.dataset.ways)

    def listing(self, names: tuple[str, ...]) -> Task:
        """The task of telling the classes of a list apart."""
        scale, shape = self.scale.with_rows(len(names)), replace(self.shape, num_classes=len(names))
        return replace(self, class_names=names, shape=shape, scale=scale, source_labels=None)

    @property
    def layout(self) -> ParameterLayout:
        """Names and shapes of the target's parameters."""
        return self.scale.layout

    def network(self) -> nn.Module:
        """An untrained target network."""
        return build_network(self.target, self.shape)

    def reads_like(self, other: Task) -> bool:
        """Whether samples of both tasks fit into the same context: images of one shape, or texts.

        A vision backbone could read images of any shape; this is not used.
        """
        shapes = image_shapes({"self": self, "other": other})
        return shapes.get("self") == shapes.get("other")


def image_shapes(tasks: Mapping[str, Task]) -> dict[str, ImageShape]:
    """The image shapes by task, without the number of classes; tasks on texts are left out."""
    shapes = {name: task.shape for name, task in tasks.items()}
    return {name: replace(shape, num_classes=0) for name, shape in shapes.items() if isinstance(shape, ImageShape)}
