"""From known tasks to a new one (paper 4.4): a generator begins to generate a network that it has not learned.

in:  a generator that knows one or more tasks, and a new task: another target, other data, or both
out: a generator of the new task alone, with the same backbone, LoRA, projection head and, for images of a known shape,
     patch embedding

The new task starts from its nearest known task (`similarity`). What belongs to a tensor of the new target (parameter
tokens, place embedding, mean and deviation) is copied from the tensor of the known target that has the same role: the
output layer from the output layer, every other tensor by its position from the input on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from neurogen.config import TokenOrder
from neurogen.errors import UserError
from neurogen.generator.generator import Generator
from neurogen.generator.latent import LatentTable
from neurogen.generator.projection import PlaceEmbedding
from neurogen.generator.task import Task
from neurogen.generator.tokens import TokenTable
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.training.groups import PerTask

OUTPUT = 2  # tensors of the output layer: weight and bias


def transferred(generator: Generator, task: Task, seed: int) -> Generator:
    """A generator of `task` alone. The scale of `task` is replaced by that of its nearest known task."""
    known = max(generator.tasks.values(), key=lambda other: similarity(other, task))
    roles = roles_of(known.layout, task.layout)
    task = replace(task, scale=scale_by_role(known.scale, task.layout, roles))
    new = Generator(generator.backbone, {task.name: task}, generator.config, seed)
    by_class = generator.config.order == TokenOrder.interleaved
    before, now = (replace(layout, by_class=by_class) for layout in (known.layout, task.layout))
    rows = rows_by_role(before, now, roles, generator.backbone.hidden_size)
    sources = {"parameter_tokens": known.name, "projection": known.name}
    if generator.latent_tokens is not None:
        sources["latent_tokens"] = known.name
    same_images = [name for name in generator.patches if generator.tasks[name].reads_like(task)]
    if same_images:  # images of a new shape get a new patch embedding
        sources["patches"] = same_images[0]
    with torch.no_grad():
        for part, source in sources.items():
            _copy(generator.get_submodule(part), new.get_submodule(part), source, rows, roles)
    return new.to(generator.backbone.device)


def _copy(known: nn.Module, new: nn.Module, source: str, rows: list[int], roles: list[int]) -> None:
    """Copy parameters from `known` to `new`: tokens row by row, place embeddings tensor by tensor, others unchanged."""
    for before, module in _counterparts(known, new, source):
        index = rows if isinstance(module, (TokenTable, LatentTable)) else slice(None)
        for name, value in module.named_parameters(recurse=False):
            value.copy_(before.get_parameter(name)[index])
        if isinstance(module, PlaceEmbedding):
            assert isinstance(before, PlaceEmbedding)
            module.layer.weight.copy_(before.layer.weight[roles])


def _counterparts(known: nn.Module, new: nn.Module, source: str) -> Iterator[tuple[nn.Module, nn.Module]]:
    """(known, new) for every module of the same role; of modules per task, that of the task `source`."""
    yield known, new
    if isinstance(new, PlaceEmbedding):
        return
    for name, child in new.named_children():
        before = known.get_submodule(source if isinstance(new, PerTask) else name)
        yield from _counterparts(before, child, source)


def similarity(known: Task, new: Task) -> tuple[bool, ...]:
    """The greater, the more similar: by modality, then by layout, then by the target's builder, then by the data."""
    return (
        known.target.modality == new.target.modality,
        known.layout == new.layout,
        known.target.build == new.target.build,
        known.dataset.name == new.dataset.name,
    )


def roles_of(known: ParameterLayout, new: ParameterLayout) -> list[int]:
    """For every tensor of `new`, the index of the tensor in `known` that it starts from."""
    if known.buffers or new.buffers:
        return _roles_by_kind(known, new)
    num_inner = max(0, len(known.names) - OUTPUT)
    roles = []
    for index in range(len(new.names)):
        from_end = len(new.names) - index
        if from_end <= OUTPUT or not num_inner:
            roles.append(max(0, len(known.names) - from_end))
        else:
            # further inner layers start from the last known one: weights from weights, biases from biases
            roles.append(index if index < num_inner else num_inner - OUTPUT + index % OUTPUT)
    return roles


def _roles_by_kind(known: ParameterLayout, new: ParameterLayout) -> list[int]:
    """The same where layers have running statistics: a variance starts from a variance, which stands as its logarithm.

    Raises UserError where the known target has no tensor of a kind.
    """

    def kinds(layout: ParameterLayout) -> list[tuple[str, int, bool]]:
        """Last part of the name, dimensions, whether it belongs to the output layer."""
        named = enumerate(zip(layout.names, layout.shapes, strict=True))
        return [(name.rpartition(".")[2], len(shape), index in layout.output) for index, (name, shape) in named]

    candidates: dict[tuple[str, int, bool], list[int]] = {}
    for index, kind in enumerate(kinds(known)):
        candidates.setdefault(kind, []).append(index)
    counts, roles = Counter[tuple[str, int, bool]](), []
    for name, kind in zip(new.names, kinds(new), strict=True):
        if kind not in candidates:
            raise UserError(
                f"nothing in the known target is like {name}, from which it could start; take a target@source of the "
                "same family"
            )
        roles.append(candidates[kind][min(counts[kind], len(candidates[kind]) - 1)])
        counts[kind] += 1
    return roles


def rows_by_role(known: ParameterLayout, new: ParameterLayout, roles: list[int], width: int) -> list[int]:
    """For every token of `new`, the row of its token in `known`: that of the same chunk, or of the last one."""
    rows: dict[int, list[int]] = {tensor: [] for tensor in range(len(known.names))}
    for row, chunk in enumerate(known.chunks(width)):
        rows[chunk.tensor].append(row)
    candidates = [(rows[roles[chunk.tensor]], chunk.position) for chunk in new.chunks(width)]
    return [rows_of_tensor[min(index, len(rows_of_tensor) - 1)] for rows_of_tensor, index in candidates]


def scale_by_role(known: Scale, layout: ParameterLayout, roles: list[int]) -> Scale:
    """Mean and deviation of every tensor by its role; deviations are corrected for the new fan-in."""
    before, now = (Scale.of_fan_in(part, None).std for part in (known.layout, layout))
    return Scale(layout, known.mean[roles], known.std[roles] * now / before[roles], known.soft_clip)
