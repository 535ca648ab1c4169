"""The engine: whoever holds the trained values and updates them. The training loop does not know which one it has.

This file has that of one process; an engine over many satisfies the same Protocol from outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from neurogen.config import StageConfig

Trainables = Mapping[str, nn.Parameter]


class Engine(Protocol):
    """What the loop needs of whoever holds the parameters and updates them."""

    def backward(self, loss: Tensor) -> None: ...

    def update(self, lr: float) -> float:
        """One optimiser step at this learning rate; returns the gradient norm before clipping."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Everything to continue from: trained values and optimiser state, by name."""
        ...

    def load(self, state: dict[str, Tensor]) -> None: ...


def optimizer_of(trainables: Trainables, stage: StageConfig) -> torch.optim.Optimizer:
    """The recipe's optimiser in two groups: parameter tokens, which learn faster, and the rest."""
    tokens = [value for name, value in trainables.items() if name.startswith("parameter_tokens.")]
    rest = [value for name, value in trainables.items() if not name.startswith("parameter_tokens.")]
    groups = [
        {"params": rest, "lr_scale": 1.0},
        {"params": tokens, "lr_scale": stage.token_lr_scale},
    ]
    if stage.optimizer == "adamw":
        return torch.optim.AdamW(groups, stage.lr, (0.9, stage.beta2), weight_decay=stage.weight_decay)
    return torch.optim.SGD(groups, stage.lr, weight_decay=stage.weight_decay)


class SingleProcess:
    """Engine of one process: torch's optimiser on float32 values."""

    def __init__(self, trainables: Trainables, stage: StageConfig) -> None:
        self.trainables, self.clip_norm = trainables, stage.clip_norm
        self.optimizer = optimizer_of(trainables, stage)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def update(self, lr: float) -> float:
        norm = nn.utils.clip_grad_norm_(self.trainables.values(), self.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(norm)

    def state(self) -> dict[str, Tensor]:
        state = {f"value/{name}": value.detach() for name, value in self.trainables.items()}
        for name, value in self.trainables.items():
            for key, moment in self.optimizer.state[value].items():
                state[f"optimizer/{key}/{name}"] = moment
        return state

    def load(self, state: dict[str, Tensor]) -> None:
        for key, saved in state.items():
            kind, _, rest = key.partition("/")
            if kind == "value":
                with torch.no_grad():
                    self.trainables[rest].copy_(saved)
            else:
                moment, _, name = rest.partition("/")
                value = self.trainables[name]
                # torch keeps the number of steps on the CPU, whatever the device of the values
                self.optimizer.state[value][moment] = saved if moment == "step" else saved.to(value.device)
