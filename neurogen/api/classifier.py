"""A small network that reads raw samples: what `generate` gives, and what a zoo consists of.

in:  images [samples, channels, height, width], as bytes or as floats from 0 to 1; or a list of texts
out: logits [samples, classes]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurogen.api.export import save_network
from neurogen.api.few_shot import SupportClass
from neurogen.api.names import Reading
from neurogen.api.samples import SampleReader
from neurogen.data.dataset import Split
from neurogen.data.preparation import Normalisation, TokenEmbedding
from neurogen.errors import advising
from neurogen.store import Unwritable
from neurogen.targets.prediction import Batches, accuracy_of, predict
from neurogen.targets.values import fill
from neurogen.training.numerics import Numerics


@dataclass(frozen=True)
class Prompt:
    """What a generator read when it generated a network."""

    dataset: str
    target: str
    instruction: str
    labels: tuple[str, ...]  # of the samples in the context
    readings: tuple[Reading, ...] = ()  # where it read a list of classes, what it took their names for
    support: tuple[SupportClass, ...] = ()  # the classes of the list that samples show


class Preparation(nn.Module):
    """Raw samples, bytes or token ids, made into what the target network reads. It holds no parameters."""

    def __init__(self, preparation: Normalisation | TokenEmbedding) -> None:
        super().__init__()
        self.kind = type(preparation)
        for item in fields(preparation):
            self.register_buffer(item.name, getattr(preparation, item.name))

    def forward(self, samples: Tensor) -> Float[Tensor, "samples ..."]:
        """Images [samples, channels, height, width] as bytes, or token ids [samples, tokens] padded with −1."""
        return self.kind(**dict(self.named_buffers()))(samples)


class Classifier(nn.Module):
    """`network` is the bare target, whose parameters were generated; `preparation` stands before it."""

    def __init__(
        self, network: nn.Module, tensors: Mapping[str, Tensor], reader: SampleReader, prompt: Prompt | None = None
    ) -> None:
        """`network` takes over `tensors`, its parameters by name; `prompt` is None for a trained network."""
        super().__init__()
        fill(network, tensors)
        self.preparation, self.network = Preparation(reader.preparation), network
        self.reader, self.prompt = reader, prompt
        self.eval()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits."""
        return self.reader.class_names

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.network.parameters()).device

    @Numerics().applied()
    def forward(self, samples: Any) -> Float[Tensor, "samples classes"]:
        """Logits. Floats from 0 to 1 are rounded to bytes, as in the training data.

        `network` on its own takes prepared samples, and lets gradients through to them.
        Raises UserError for samples that the network cannot read.
        """
        raw = self.reader.samples(samples).to(self.device)
        logits: Tensor = self.network(self.preparation(raw))
        return logits

    @torch.no_grad()
    def predict(self, samples: Any) -> list[str]:
        """The name of the likeliest class of every sample. Raises UserError as calling the network does."""
        return [self.class_names[index] for index in self(samples).argmax(1).tolist()]

    def accuracy(self, samples: Any, labels: Any) -> float:
        """The fraction of samples whose likeliest class is their label. Raises UserError as `predict` does."""
        return self.accuracy_on(self.reader.split(samples, labels))

    @torch.no_grad()
    @Numerics().applied()
    def accuracy_on(self, split: Split | Batches) -> float:
        """The same on a split of a dataset, or on one that is prepared on this device for several networks."""
        batches = split if isinstance(split, Batches) else Batches(split, self.device)
        return accuracy_of(predict(self.network, {}, batches).argmax(1), batches.labels)

    def save(self, path: str | Path) -> None:
        """Write the network: NAME.safetensors has the parameters of `network`, NAME.pt2 is a program for torch alone.

        neurogen/api/export.py says what each holds. Raises UserError for another suffix, a target that torch cannot
        export, and a file that cannot be written.
        """
        with advising(Unwritable, "free some space or give another path"):
            save_network(self, Path(path))

    def __repr__(self) -> str:
        count = sum(value.numel() for value in self.network.parameters())
        return f"Classifier({self.reader.dataset.title}: {len(self.class_names)} classes, {count:,} parameters)"
