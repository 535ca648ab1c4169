"""Rows of the output layer for classes that are shown by samples, fit to stand beside generated ones.

in:  a task that lists classes; features of samples, or a network with such rows
out: rows; the network with its rows in another order

A generated row has, on average, the length and the bias of the rows that the zoo has for its classes; rows of shown
classes get the same, so that both kinds stand in one list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from neurogen.generator.task import Task
from neurogen.targets.prototypes import output_layer, prototypes


def known_rows(task: Task) -> tuple[Float[Tensor, "classes features"], Float[Tensor, " classes"]]:
    """The zoo's rows of the output layer and their biases, which are 0 where the target has none."""
    assert task.known is not None
    mean, std = ([value[tensor] for tensor in task.layout.output] for value in (task.scale.mean, task.scale.std))
    sizes = [
        1 if len(task.layout.shapes[tensor]) == 1 else task.layout.shapes[tensor][1] for tensor in task.layout.output
    ]
    parts = task.known.rows.split(sizes, dim=1)
    weight, *biases = (m + s * part for m, s, part in zip(mean, std, parts, strict=True))
    return weight, biases[0][:, 0] if biases else weight.new_zeros(len(weight))


def support_rows(
    task: Task, read: Float[Tensor, "samples features"], labels: Int64[Tensor, " samples"], num_classes: int
) -> tuple[Float[Tensor, "classes features"], float]:
    """(rows of the output layer for classes with these features, the bias of each)."""
    weight, bias = known_rows(task)
    length = weight.norm(dim=1).mean().to(read.device)
    return length * prototypes(read, labels, num_classes), float(bias.mean())


def in_order(network: nn.Module, tensors: Mapping[str, Tensor], rows: Sequence[int]) -> dict[str, Tensor]:
    """The parameters with these rows of the output layer, in this order."""
    name, _ = output_layer(network)
    index = torch.tensor(rows)
    return {
        key: value[index.to(value.device)] if key.rpartition(".")[0] == name else value
        for key, value in tensors.items()
    }
