"""ParameterLayout: tensors of the target ↔ chunks of parameter tokens ↔ one flat vector. Scale: their units.

Each tensor is cut into chunks of at most d values, with one parameter token per chunk. A token belongs to one tensor;
values beyond the end of the tensor's last chunk are dropped. So num_tokens · d ≥ |w| (paper 3.3.1), and
chunks → flat → tensors is lossless and differentiable. With `by_class`, each row of the output layer has chunks of its
own, so that its tokens can stand beside the samples of its class.

The backbone generates z-scores: w = mean + std · z, with one mean and one std per tensor (`Scale`). The paper's soft
clipping w ← α · tanh(w / α) follows where it is asked for (paper 4.3).

Running means and variances of normalisation layers are tensors like all others. A variance stands in the flat vector
as its logarithm. So it is positive whatever is generated, averaged or added as noise, and the mean of a zoo is that of
the z-scores that stage 1 learns: of variances the geometric one. A network divides by the root of a variance, so what
counts is its relative error, which a logarithm measures alike for channels of all sizes; a softplus would not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor, nn

from neurogen.errors import UserError
from neurogen.targets.values import buffers_of, values_of

VARIANCE = "running_var"  # what torch's normalisation layers call it
LEAST_VARIANCE = 1e-6  # of a dead channel, whose logarithm would be −∞; layers add ten times as much to it


class Chunk(NamedTuple):
    """The values that one parameter token generates."""

    tensor: int  # index of the tensor
    position: int  # of the chunk within its tensor, from 0
    first: int  # index of the first value among all parameters
    size: int
    row: int | None  # of the output layer, where that is cut by class


@dataclass(frozen=True)
class ParameterLayout:
    """Names and shapes of the target's tensors, in order."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    by_class: bool = False  # cut the output layer row by row
    buffers: tuple[str, ...] = ()  # the names of those that are no parameters

    @staticmethod
    def of(network: nn.Module) -> ParameterLayout:
        """Raises UserError for a target that cannot be generated (values.py)."""
        values = values_of(network)
        shapes = tuple(tuple(value.shape) for value in values.values())
        return ParameterLayout(tuple(values), shapes, buffers=buffers_of(network))

    @cached_property
    def sizes(self) -> list[int]:
        """The number of values in every tensor."""
        return [math.prod(shape) for shape in self.shapes]

    @property
    def num_parameters(self) -> int:
        """|w|."""
        return sum(self.sizes)

    @cached_property
    def is_variance(self) -> list[bool]:
        """Of every tensor, whether the flat vector holds its logarithm."""
        buffers = set(self.buffers)
        return [name in buffers and name.rpartition(".")[2] == VARIANCE for name in self.names]

    @cached_property
    def firsts(self) -> list[int]:
        """The index of every tensor's first value among all parameters."""
        return [0, *accumulate(self.sizes)][:-1]

    @property
    def output(self) -> list[int]:
        """The tensors of the last module, the output layer: their rows are the classes."""
        module = self.names[-1].rpartition(".")[0]
        return [tensor for tensor, name in enumerate(self.names) if name.rpartition(".")[0] == module]

    def chunks(self, width: int) -> list[Chunk]:
        """In the order of the tokens: tensor by tensor. With `by_class` the output layer comes last, row by row."""
        output = self.output if self.by_class else []
        inner = [self._cut(tensor, width) for tensor in range(len(self.sizes)) if tensor not in output]
        num_rows = self.num_rows if output else 0
        rows = [self._cut(tensor, width, row) for row in range(num_rows) for tensor in output]
        return [chunk for chunks in (*inner, *rows) for chunk in chunks]

    def require_rows(self, num_classes: int, why: str) -> None:
        """Raises UserError unless every tensor of the last module has one row per class. `why`: what needs that."""
        for tensor in self.output:
            if self.shapes[tensor][0] != num_classes:
                raise UserError(
                    f"{why} needs a row per class in the output layer, and {self.names[tensor]} has the shape "
                    f"{list(self.shapes[tensor])} for {num_classes} classes; use a target that ends in a linear layer"
                )

    @property
    def num_rows(self) -> int:
        """Of the output layer."""
        return self.shapes[-1][0]

    def with_rows(self, count: int) -> ParameterLayout:
        """The same target for so many classes; its output layer must have a row per class (`require_rows`)."""
        output = self.output
        resized = ((count, *shape[1:]) if tensor in output else shape for tensor, shape in enumerate(self.shapes))
        return replace(self, shapes=tuple(resized))

    def groups(self, width: int) -> list[int]:
        """The sizes of the groups of tokens: all tokens; with `by_class`, the inner ones, then those of each row."""
        rows = [chunk.row for chunk in self.chunks(width)]
        if not self.by_class:
            return [len(rows)]
        return [rows.count(None), *(rows.count(row) for row in range(self.num_rows))]

    def _cut(self, tensor: int, width: int, row: int | None = None) -> list[Chunk]:
        size, first = self.sizes[tensor], self.firsts[tensor]
        if row is not None:
            size //= self.shapes[tensor][0]
            first += row * size
        count = math.ceil(size / width)
        return [
            Chunk(tensor, (row or 0) * count + index, first + index * width, min(width, size - index * width), row)
            for index in range(count)
        ]

    def positions(self, width: int) -> Int64[Tensor, " params"]:
        """The index of every parameter among the num_tokens · width values of all chunks."""
        positions = torch.empty(self.num_parameters, dtype=torch.int64)
        for token, chunk in enumerate(self.chunks(width)):
            positions[chunk.first : chunk.first + chunk.size] = token * width + torch.arange(chunk.size)
        return positions

    def per_parameter(self, per_tensor: Shaped[Tensor, " tensors"]) -> Shaped[Tensor, " params"]:
        """One value per tensor, repeated for each of its parameters."""
        sizes = torch.tensor(self.sizes, device=per_tensor.device)
        return per_tensor.repeat_interleave(sizes, output_size=self.num_parameters)

    def choose_rows(self, flat: Float[Tensor, "*n params"], rows: Sequence[int]) -> Float[Tensor, "*n _"]:
        """The network whose output layer has these rows of the given one's, in this order.

        Rows are Python's numbers, so nothing has to be copied to the device of the values.
        """
        parts = list(flat.split(self.sizes, -1))
        for tensor in self.output:
            every = parts[tensor].unflatten(-1, (self.num_rows, -1)).unbind(-2)
            parts[tensor] = torch.stack([every[row] for row in rows], -2).flatten(-2)
        return torch.cat(parts, -1)

    def flatten(self, tensors: dict[str, Tensor]) -> Float[Tensor, " params"]:
        """The inverse of `tensors`. Raises UserError for the tensors of another network."""
        expected = dict(zip(self.names, self.shapes, strict=True))
        given = {name: tuple(value.shape) for name, value in tensors.items()}
        if given != expected:
            raise UserError(f"these are another network's parameters: expected {expected}, given {given}")
        parts = [tensors[name].reshape(-1) for name in self.names]
        pairs = zip(parts, self.is_variance, strict=True)
        return torch.cat([part.clamp(min=LEAST_VARIANCE).log() if is_log else part for part, is_log in pairs])

    def tensors(self, flat: Float[Tensor, " params"]) -> dict[str, Tensor]:
        """Layer-wise parameters in the form of functional_call: the slicing operation of paper 3.3.2."""
        parts = zip(self.names, flat.split(self.sizes), self.shapes, self.is_variance, strict=True)
        return {name: (part.exp() if is_log else part).reshape(shape) for name, part, shape, is_log in parts}


@dataclass(frozen=True)
class Scale:
    """One mean and one standard deviation per tensor, and α of the soft clipping (None: no clipping)."""

    layout: ParameterLayout
    mean: Float[Tensor, " tensors"]
    std: Float[Tensor, " tensors"]
    soft_clip: float | None = None
    repeated: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )  # by device, of every parameter
    by_rows: dict[int, Scale] = field(default_factory=dict, init=False, repr=False, compare=False)

    @staticmethod
    def of_zoo(zoo: Float[Tensor, "networks params"], layout: ParameterLayout, soft_clip: float | None) -> Scale:
        """The moments of every tensor over all networks of the zoo."""
        parts = zoo.split(layout.sizes, dim=1)
        mean = torch.stack([part.mean() for part in parts])
        std = torch.stack([part.std(correction=0) for part in parts])
        return Scale(layout, mean, std.clamp(min=1e-6), soft_clip)

    @staticmethod
    def of_fan_in(layout: ParameterLayout, soft_clip: float | None) -> Scale:
        """Mean 0, std 1/√fan-in; a bias shares the fan-in of the weight before it. The weights of layers with running
        statistics have mean 1, as torch starts them."""
        stds, fan_in = [], 1
        for shape in layout.shapes:
            fan_in = math.prod(shape[1:]) if len(shape) > 1 else fan_in
            stds.append(fan_in**-0.5)
        normalising = {f"{name.rpartition('.')[0]}.weight" for name in layout.buffers}
        means = [float(name in normalising) for name in layout.names]
        return Scale(layout, torch.tensor(means), torch.tensor(stds), soft_clip)

    def with_rows(self, count: int) -> Scale:
        """The same scale of the target for so many classes."""
        if count not in self.by_rows:
            self.by_rows[count] = Scale(self.layout.with_rows(count), self.mean, self.std, self.soft_clip)
        return self.by_rows[count]

    def decode(self, z: Float[Tensor, "*n params"]) -> Float[Tensor, "*n params"]:
        """z-scores → parameters, clipped where the scale asks for it."""
        mean, std, is_statistic = self.per_parameter(z.device)
        w = mean + std * z
        if self.soft_clip is None:
            return w
        clipped = self.soft_clip * torch.tanh(w / self.soft_clip)
        if not self.layout.buffers:
            return clipped
        return torch.where(is_statistic, w, clipped)  # those are as large as activations are

    def encode(self, w: Float[Tensor, "*n params"]) -> Float[Tensor, "*n params"]:
        """The z-scores whose linear decoding is w. Stage 1 compares z-scores before any soft clipping."""
        mean, std, _ = self.per_parameter(w.device)
        return (w - mean) / std

    def per_parameter(
        self, device: torch.device
    ) -> tuple[Float[Tensor, " params"], Float[Tensor, " params"], Bool[Tensor, " params"]]:
        """Mean and standard deviation of every parameter, and whether it belongs to a buffer; made once a device."""
        if device not in self.repeated:
            is_buffer = torch.tensor([name in self.layout.buffers for name in self.layout.names])
            with torch.inference_mode(False):  # gradients may go through them later
                mean, std, is_statistic = (
                    self.layout.per_parameter(value.to(device)) for value in (self.mean, self.std, is_buffer)
                )
            self.repeated[device] = mean, std, is_statistic
        return self.repeated[device]
