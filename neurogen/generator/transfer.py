"""From known tasks to a new one (paper 4.4): a generator begins to generate a network that it has not learned.

in:  a generator that knows a network f, or several; a network f', for data that it knows or other data
out: a generator of f' with the same backbone, LoRA and projection head, and the patch embedding of images of that shape

What belongs to a tensor of f' (parameter tokens, place embedding, mean and deviation) is taken over from the tensor of
f that has its role: output layer from output layer, everything else by its place from the input on. Of several known
networks f is the most alike: by its kind of data, then its layout, then its target, then its very data.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from neurogen.generator.generator import Generator
from neurogen.generator.task import Task
from neurogen.targets.parameters import ParameterLayout, Scale

OUTPUT = 2  # tensors of the output layer: weight and bias


def transferred(generator: Generator, task: Task, seed: int) -> Generator:
    """A generator of `task` alone. Its scale is replaced by that of the network that it is most alike."""
    known = max(generator.tasks.values(), key=lambda other: likeness(other, task))
    roles = roles_of(known.layout, task.layout)
    task = replace(task, scale=scale_by_role(known.scale, task.layout, roles))
    found = Generator(generator.backbone, {task.name: task}, generator.config, seed)
    by_class = generator.config.order == "interleaved"
    before, now = (replace(one.layout, by_class=by_class) for one in (known, task))
    rows = rows_by_role(before, now, roles, generator.backbone.hidden_size)
    seen = [name for name in generator.patches if generator.tasks[name].reads_like(task)]
    with torch.no_grad():
        for part in ("parameter_tokens", "projection", "patches"):
            for name, value in found.get_submodule(part).named_parameters():
                if part == "patches" and not seen:
                    continue  # images of a new shape: their patch embedding begins anew
                source = generator.get_parameter(
                    f"{part}.{name}".replace(task.name, seen[0] if part == "patches" else known.name)
                )
                taken = {"tables": rows, "places": roles}.get(name.split(".")[0], slice(None))
                value.copy_(source[taken])
    return found.to(generator.backbone.device)


def likeness(known: Task, new: Task) -> tuple[bool, ...]:
    """The greater, the more alike are their networks."""
    return (
        known.target.modality == new.target.modality,
        known.layout == new.layout,
        known.target.build == new.target.build,
        known.dataset.name == new.dataset.name,
    )


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
    for row, chunk in enumerate(known.chunks(width)):
        rows[chunk.tensor].append(row)
    alike = [(rows[roles[chunk.tensor]], chunk.number) for chunk in new.chunks(width)]
    return [own[min(number, len(own) - 1)] for own, number in alike]


def scale_by_role(known: Scale, layout: ParameterLayout, roles: list[int]) -> Scale:
    """Mean and deviation of every tensor, those of weights for the number of inputs that they now have."""
    before, now = (Scale.of_fan_in(one, None).std for one in (known.layout, layout))
    return Scale(layout, known.mean[roles], known.std[roles] * now / before[roles], known.soft_clip)
