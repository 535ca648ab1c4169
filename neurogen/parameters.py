"""ParameterLayout: tensors of the target ↔ chunks of parameter tokens ↔ one flat vector. Scale: their units.

Each tensor is cut into chunks of at most d values, one parameter token each; a token belongs to one tensor, and what
a tensor's last chunk has too many is dropped. So num_tokens · d ≥ |w|, as paper 3.3.1 asks, and
chunks → flat → tensors loses nothing and has exact gradients.

The backbone speaks in z-scores: w = mean + std · z, one mean and one std per tensor (`Scale`), then, where asked
for, the paper's soft clipping w ← α · tanh(w / α) (paper 4.3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from neurogen.errors import UserError


@dataclass(frozen=True)
class ParameterLayout:
    """Names and shapes of the target's trainable tensors, in order."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(network: nn.Module) -> ParameterLayout:
        """Raises UserError for a target that parameters alone do not determine."""
        if list(network.buffers()):
            raise UserError(
                "the target has buffers (batch normalisation?), which cannot be generated; use a target without them"
            )
        named = dict(network.named_parameters())
        if not named:
            raise UserError("the target has no trainable parameters; give it some")
        return ParameterLayout(tuple(named), tuple(tuple(value.shape) for value in named.values()))

    @property
    def sizes(self) -> list[int]:
        return [math.prod(shape) for shape in self.shapes]

    @property
    def num_parameters(self) -> int:
        return sum(self.sizes)

    def chunks(self, width: int) -> list[tuple[int, int]]:
        """(tensor, chunk within the tensor) of every token."""
        return [(tensor, chunk) for tensor, size in enumerate(self.sizes) for chunk in range(math.ceil(size / width))]

    def positions(self, width: int) -> Int64[Tensor, " params"]:
        """Where each parameter stands among the num_tokens · width values of all chunks."""
        found, first = [], 0
        for size in self.sizes:
            found.append(torch.arange(first, first + size))
            first += width * math.ceil(size / width)
        return torch.cat(found)

    def per_parameter(self, per_tensor: Float[Tensor, " tensors"]) -> Float[Tensor, " params"]:
        """One value per tensor, repeated for each of its parameters."""
        sizes = torch.tensor(self.sizes, device=per_tensor.device)
        return per_tensor.repeat_interleave(sizes, output_size=self.num_parameters)

    def flatten(self, tensors: dict[str, Tensor]) -> Float[Tensor, " params"]:
        """Raises UserError when the tensors are another network's."""
        expected = dict(zip(self.names, self.shapes, strict=True))
        found = {name: tuple(value.shape) for name, value in tensors.items()}
        if found != expected:
            raise UserError(f"these are another network's parameters: expected {expected}, found {found}")
        return torch.cat([tensors[name].reshape(-1) for name in self.names])

    def tensors(self, flat: Float[Tensor, " params"]) -> dict[str, Tensor]:
        """The slicing operation of paper 3.3.2: layer-wise parameters, as functional_call takes them."""
        parts = zip(self.names, flat.split(self.sizes), self.shapes, strict=True)
        return {name: part.reshape(shape) for name, part, shape in parts}


@dataclass(frozen=True)
class Scale:
    """One mean and one standard deviation per tensor, and α of the soft clipping (None: off)."""

    layout: ParameterLayout
    mean: Float[Tensor, " tensors"]
    std: Float[Tensor, " tensors"]
    soft_clip: float | None = None

    @staticmethod
    def of_zoo(zoo: Float[Tensor, "networks params"], layout: ParameterLayout, soft_clip: float | None) -> Scale:
        parts = zoo.split(layout.sizes, dim=1)
        mean = torch.stack([part.mean() for part in parts])
        std = torch.stack([part.std(correction=0) for part in parts])
        return Scale(layout, mean, std.clamp(min=1e-6), soft_clip)

    @staticmethod
    def of_fan_in(layout: ParameterLayout, soft_clip: float | None) -> Scale:
        """Mean 0, std 1/√fan-in; a bias shares the fan-in of the weight before it."""
        stds, fan_in = [], 1
        for shape in layout.shapes:
            fan_in = math.prod(shape[1:]) if len(shape) > 1 else fan_in
            stds.append(fan_in**-0.5)
        return Scale(layout, torch.zeros(len(stds)), torch.tensor(stds), soft_clip)

    def decode(self, z: Float[Tensor, "*n params"]) -> Float[Tensor, "*n params"]:
        """z-scores → parameters."""
        mean, std = (self.layout.per_parameter(value.to(z.device)) for value in (self.mean, self.std))
        w = mean + std * z
        return w if self.soft_clip is None else self.soft_clip * torch.tanh(w / self.soft_clip)

    def encode(self, w: Float[Tensor, "*n params"]) -> Float[Tensor, "*n params"]:
        """The z-scores whose linear decoding is w; stage 1 compares these, before any soft clipping."""
        mean, std = (self.layout.per_parameter(value.to(w.device)) for value in (self.mean, self.std))
        return (w - mean) / std
