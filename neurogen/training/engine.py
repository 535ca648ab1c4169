"""The engine runs the module, holds its trained values and updates them. The training loop does not know which it has.

This module has the Protocol and the engine of a single process. hpc/ranks/engine.py has that of several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurogen.config import StageConfig
from neurogen.training.groups import trainables_of


class Engine(Protocol):
    """What the training loop needs. With several ranks, all of them call the same methods in the same order."""

    @property
    def batches(self) -> Sequence[Sequence[int]]:
        """The step's contexts that this process computes, in batches for one forward pass each. Every process has
        equally many."""
        ...

    def __call__(self, *inputs: Any) -> Tensor:
        """The module's forward pass, for a loss."""
        ...

    def backward(self, losses: Float[Tensor, " contexts"]) -> None:
        """The backward pass of a batch. Gradients are averaged over all contexts of all ranks."""
        ...

    def update(self, lr: float) -> float:
        """One optimiser step of the groups that have gradients; returns the norm of the gradients before clipping."""
        ...

    def values(self) -> dict[str, Tensor]:
        """Copies of the trained values, unsharded, by name."""
        ...

    def moments(self) -> dict[str, Tensor]:
        """Copies of the optimiser's state, unsharded, as 'moment/name'."""
        ...

    def numel(self, value: nn.Parameter) -> int:
        """The number of values of a parameter, also where this process holds only a shard of it."""
        ...

    def release(self) -> None:
        """Training is over: the module holds the trained values, unsharded."""
        ...


class BuildEngine(Protocol):
    """How a runtime builds its engine."""

    def __call__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        stage: StageConfig,
        batch_size: int,
        moments: Mapping[str, Tensor],
    ) -> Engine:
        """`batch_size`: how many contexts make a batch at most. `moments` come from a checkpoint, or are empty."""
        ...


class SingleProcess:
    """The engine of one process: torch's optimiser on float32 values."""

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        stage: StageConfig,
        batch_size: int,
        moments: Mapping[str, Tensor],
    ) -> None:
        self.module, self.optimizer, self.clip_norm = module, optimizer, stage.clip_norm
        self.num_contexts = stage.contexts_per_step
        self.batches = [
            range(self.num_contexts)[first : first + batch_size] for first in range(0, self.num_contexts, batch_size)
        ]
        self.trainables = trainables_of(module)
        for key, saved in moments.items():
            moment, _, name = key.partition("/")
            value = self.trainables[name]
            # torch keeps the number of steps on the CPU, whatever the device of the values
            self.optimizer.state[value][moment] = saved if moment == "step" else saved.to(value.device)

    def __call__(self, *inputs: Any) -> Tensor:
        """The module's forward pass."""
        output: Tensor = self.module(*inputs)
        return output

    def backward(self, losses: Float[Tensor, " contexts"]) -> None:
        """Adds the gradients of a batch, divided by the number of contexts."""
        (losses.sum() / self.num_contexts).backward()

    def update(self, lr: float) -> float:
        """Clips, steps, and clears the gradients; returns their norm before clipping."""
        norm = nn.utils.clip_grad_norm_(self.trainables.values(), self.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(norm)

    def values(self) -> dict[str, Tensor]:
        """Copies of the trained values by name."""
        return {name: value.detach().clone() for name, value in self.trainables.items()}

    def moments(self) -> dict[str, Tensor]:
        """Copies of the optimiser's state as 'moment/name'."""
        return {
            f"{moment}/{name}": state.clone()
            for name, value in self.trainables.items()
            for moment, state in self.optimizer.state[value].items()
        }

    def numel(self, value: nn.Parameter) -> int:
        """The number of values of a parameter."""
        return value.numel()

    def release(self) -> None:
        """The module holds the trained values already."""
