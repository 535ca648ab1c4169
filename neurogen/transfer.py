"""From one target to another (paper 4.4): a generator that knows one network begins to generate a second one.

in:  a generator after stage 1, whose only task is a network f; a network f' for the same data
out: a generator of f' with the same backbone, LoRA, projection head and patch embedding

What belongs to a tensor of f' (parameter tokens, place embedding, mean and deviation) is taken over from the tensor of
f that has its role: output layer from output layer, everything else by its place from the input on.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from neurogen.generator import Generator
from neurogen.parameters import ParameterLayout, Scale
from neurogen.task import TaskDescription

OUTPUT = 2  # tensors of the output layer: weight and bias


def transferred(generator: Generator, task: TaskDescription) -> Generator:
    """A generator of `task` alone. Its scale is replaced by that of the network known so far."""
    (known,) = generator.tasks.values()
    roles = roles_of(known.layout, task.layout)
    task = replace(task, scale=scale_by_role(known.scale, task.layout, roles))
    found = Generator(generator.backbone, {task.name: task}, generator.config, seed=0)  # of which nothing is left
    taken = {
        "parameter_tokens.{}.weight": rows_by_role(known.layout, task.layout, roles, generator.backbone.hidden_size),
        "projection.places.{}.layer.weight": roles,
    }
    before = dict(generator.named_parameters())
    with torch.no_grad():
        for name, rows in taken.items():
            found.get_parameter(name.format(task.name)).copy_(before[name.format(known.name)][rows])
        for name, value in found.projection.named_parameters():
            if not name.startswith("places."):
                value.copy_(before[f"projection.{name}"])
        if known.name in generator.patches:
            found.patches[task.name].load_state_dict(generator.patches[known.name].state_dict())
    return found.to(generator.backbone.device)


def roles_of(known: ParameterLayout, new: ParameterLayout) -> list[int]:
    """For every tensor of `new` the number of the tensor in `known` that it takes after."""
    inner = max(0, len(known.names) - OUTPUT)
    found = []
    for number in range(len(new.names)):
        from_end = len(new.names) - number
        if from_end <= OUTPUT or not inner:
            found.append(max(0, len(known.names) - from_end))
        else:
            # behind the last inner layer: that layer again, weight for weight and bias for bias
            found.append(number if number < inner else inner - OUTPUT + number % OUTPUT)
    return found


def rows_by_role(known: ParameterLayout, new: ParameterLayout, roles: list[int], width: int) -> list[int]:
    """For every token of `new` the row of the token in `known`: the same chunk, or the last one."""
    rows: dict[int, list[int]] = {number: [] for number in range(len(known.names))}
    for row, (tensor, _) in enumerate(known.chunks(width)):
        rows[tensor].append(row)
    return [rows[roles[tensor]][min(chunk, len(rows[roles[tensor]]) - 1)] for tensor, chunk in new.chunks(width)]


def scale_by_role(known: Scale, layout: ParameterLayout, roles: list[int]) -> Scale:
    """Mean and deviation of every tensor, those of weights for the number of inputs that they now have."""
    before, now = (Scale.of_fan_in(one, None).std for one in (known.layout, layout))
    return Scale(layout, known.mean[roles], known.std[roles] * now / before[roles], known.soft_clip)
