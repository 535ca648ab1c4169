"""The engine: whoever runs the module, holds its trained values and updates them. The loop does not know which it has.

This file has that of one process; an engine over many satisfies the same Protocol from outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from neurogen.config import StageConfig

Trainables = Mapping[str, nn.Parameter]


class Engine(Protocol):
    """What the loop needs. With several ranks all of them call the same methods in the same order."""

    @property
    def contexts(self) -> range:
        """Which of the step's contexts this process computes."""
        ...

    def __call__(self, *inputs: Any) -> Tensor:
        """The module's forward pass, for a loss."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Of one context. The gradients of all contexts of all ranks are averaged."""
        ...

    def update(self, lr: float) -> float:
        """One optimiser step at this learning rate, of the groups that have gradients; returns the norm of these before
        clipping."""
        ...

    def values(self) -> dict[str, Tensor]:
        """Copies of the trained values, whole, by name."""
        ...

    def moments(self) -> dict[str, Tensor]:
        """The optimiser's state, whole, as 'moment/name'."""
        ...

    def numel(self, value: nn.Parameter) -> int:
        """How many numbers a parameter has, also where this process does not hold it."""
        ...

    def release(self) -> None:
        """Training is over: the module holds the trained values, whole."""
        ...


PER_TASK = ("patches", "tables", "places", "tasks")  # modules that hold one module per task


class MakeEngine(Protocol):
    def __call__(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, stage: StageConfig, moments: Mapping[str, Tensor]
    ) -> Engine:
        """`moments` are those that another engine had, or none."""
        ...


def trainables_of(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


def optimizer_of(trainables: Trainables, stage: StageConfig) -> torch.optim.Optimizer:
    """The recipe's optimiser in groups: what has a gradient only in steps of some tasks, each by itself, since it rests
    in the others; and what is left. Parameter tokens learn faster."""
    by_rest: dict[tuple[str, float], list[nn.Parameter]] = {}
    for name, value in trainables.items():
        scale = stage.token_lr_scale if name.startswith("parameter_tokens.") else 1.0
        by_rest.setdefault((rests_with(name), scale), []).append(value)
    groups = [{"params": values, "lr_scale": scale} for (_, scale), values in by_rest.items()]
    if stage.optimizer == "adamw":
        return torch.optim.AdamW(groups, stage.lr, (0.9, stage.beta2), weight_decay=stage.weight_decay)
    return torch.optim.SGD(groups, stage.lr, weight_decay=stage.weight_decay)


def rests_with(name: str) -> str:
    """The module of one layout or one shape of images that a parameter belongs to; empty: every step needs it."""
    parts = name.split(".")
    owner = next((place for place, part in enumerate(parts) if part in PER_TASK), None)
    return "" if owner is None else ".".join(parts[: owner + 2])


class SingleProcess:
    """Engine of one process: torch's optimiser on float32 values."""

    def __init__(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, stage: StageConfig, moments: Mapping[str, Tensor]
    ) -> None:
        self.module, self.optimizer, self.clip_norm = module, optimizer, stage.clip_norm
        self.contexts = range(stage.contexts_per_step)
        self.trainables = trainables_of(module)
        for key, saved in moments.items():
            moment, _, name = key.partition("/")
            value = self.trainables[name]
            # torch keeps the number of steps on the CPU, whatever the device of the values
            self.optimizer.state[value][moment] = saved if moment == "step" else saved.to(value.device)

    def __call__(self, *inputs: Any) -> Tensor:
        found: Tensor = self.module(*inputs)
        return found

    def backward(self, loss: Tensor) -> None:
        (loss / len(self.contexts)).backward()

    def update(self, lr: float) -> float:
        norm = nn.utils.clip_grad_norm_(self.trainables.values(), self.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(norm)

    def values(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.trainables.items()}

    def moments(self) -> dict[str, Tensor]:
        return {
            f"{moment}/{name}": state
            for name, value in self.trainables.items()
            for moment, state in self.optimizer.state[value].items()
        }

    def numel(self, value: nn.Parameter) -> int:
        return value.numel()

    def release(self) -> None:
        pass
