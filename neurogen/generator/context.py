"""The context D_sub as the backbone reads it: a few labelled samples of the training data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from neurogen.config import GeneratorConfig, TokenOrder
from neurogen.data.dataset import Split
from neurogen.data.preparation import PADDING, Normalisation, TokenEmbedding
from neurogen.errors import UserError


@dataclass(frozen=True, eq=False)
class Context:
    """Raw samples, images as bytes or token ids, and the names of their classes."""

    samples: UInt8[Tensor, "samples channels height width"] | Int64[Tensor, "samples tokens"]
    labels: tuple[str, ...]
    preparation: Normalisation | TokenEmbedding  # of the dataset that the samples come from

    @staticmethod
    def of(split: Split, class_names: tuple[str, ...], index: Int64[Tensor, " samples"]) -> Context:
        """Exactly these samples of the split."""
        labels = tuple(class_names[label] for label in split.labels[index].tolist())
        return Context(split.samples[index], labels, split.preparation)

    @staticmethod
    def first(
        split: Split, class_names: tuple[str, ...], index: Int64[Tensor, " samples"], config: GeneratorConfig
    ) -> Context:
        """As many of these samples as the generator reads."""
        return Context.of(split, class_names, context_index(split, index, config))

    @staticmethod
    def sample(split: Split, class_names: tuple[str, ...], config: GeneratorConfig, rng: torch.Generator) -> Context:
        """Samples drawn without replacement; all of them where there are fewer than the generator reads."""
        return Context.first(split, class_names, split.sample(len(split), rng), config)

    @property
    def texts(self) -> list[Int64[Tensor, " tokens"]]:
        """The token ids of every text, without padding."""
        return [ids[ids != PADDING] for ids in self.samples]


def context_index(split: Split, index: Int64[Tensor, " samples"], config: GeneratorConfig) -> Int64[Tensor, " context"]:
    """The first `context_samples` of these samples; in the interleaved order, equally many of every class.

    Raises UserError where `context_samples` is less than one per class in the interleaved order.
    """
    count = config.context_samples
    if config.order != TokenOrder.interleaved:
        return index[:count]
    labels = split.labels[index]
    classes = split.labels.unique()
    if 0 < count < len(classes):
        raise UserError(
            f"generator.order=interleaved reads samples of every class, and there are {len(classes)}; set "
            f"generator.context_samples={2 * len(classes)} (now {count})"
        )
    return torch.cat([index[labels == label][: count // len(classes)] for label in classes])
