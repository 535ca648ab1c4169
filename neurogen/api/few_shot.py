"""Classes that a user shows by samples, beside those that are only named.

in:  a task whose prompts list classes, a generated network, samples labelled by the places of their classes in a list
out: the network for the whole list, and how every class came into it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurogen.api.names import class_of
from neurogen.data.dataset import Split
from neurogen.generator.few_shot import in_order, known_rows, support_rows
from neurogen.generator.task import Task
from neurogen.targets.prototypes import features, with_rows


@dataclass(frozen=True)
class SupportClass:
    """A class whose row is made of samples."""

    name: str
    num_samples: int
    meant: str | None  # the known class that has this name
    resembled: str  # the known class that most of the samples resemble

    @property
    def is_contradictory(self) -> bool:
        """The name is that of one known class, and the samples look like another."""
        return self.meant is not None and self.meant != self.resembled


def places_of(samples: Split | None) -> list[int]:
    """The places of the classes that have samples, in the order of the list."""
    return [] if samples is None else sorted(set(samples.labels.tolist()))


def show(
    task: Task, network: nn.Module, tensors: Mapping[str, Tensor], names: Sequence[str], samples: Split
) -> tuple[dict[str, Tensor], list[SupportClass]]:
    """The parameters for the whole list; `tensors` have the rows of its named classes, or any where all are shown."""
    places = places_of(samples)
    device = next(iter(tensors.values())).device
    labels = torch.tensor([places.index(place) for place in samples.labels.tolist()], device=device)
    read = features(network, tensors, samples.inputs().to(device))
    weight, bias = support_rows(task, read, labels, len(places))
    named = [place for place in range(len(names)) if place not in places]
    count = max(1, len(named))  # of rows before those of the support set
    row_of = {place: row for row, place in enumerate(named)} | {place: count + row for row, place in enumerate(places)}
    joined = with_rows(network, tensors, weight, bias)
    ordered = in_order(network, joined, [row_of[place] for place in range(len(names))])
    return ordered, _described(task, read, labels, [names[place] for place in places])


def _described(
    task: Task, read: Float[Tensor, "samples features"], labels: Tensor, names: Sequence[str]
) -> list[SupportClass]:
    rows, biases = (part.to(read.device) for part in known_rows(task))
    resembled = (read @ rows.T + biases).argmax(1)
    return [
        SupportClass(
            name,
            num_samples=int((labels == place).sum()),
            meant=class_of(name, task),
            resembled=task.class_names[int(resembled[labels == place].mode().values)],
        )
        for place, name in enumerate(names)
    ]


def contradictions(support: Sequence[SupportClass]) -> list[str]:
    """What a user should know of the samples, a line each."""
    return [
        f"{each.name} is {each.meant}, and its samples look like {each.resembled}; its row is made of the samples"
        for each in support
        if each.is_contradictory
    ]
