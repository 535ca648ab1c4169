"""Optimiser groups: which parameters learn at which rate, and which have no gradient in some steps.

Modules say it themselves. A `PerTask` holds a module for every task: in a step of one task the modules of the others
have no gradient, so each is a group of its own. So is a module with `is_idle_in_some_steps`. A module with
`learns_at_token_rate` is scaled by `token_lr_scale`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import torch
from torch import nn

from neurogen.config import Optimizer, StageConfig

Trainables = Mapping[str, nn.Parameter]
Kind = TypeVar("Kind", bound=Hashable)


class PerTask(nn.ModuleDict):
    """A module for every task; tasks of equal kind share one. Its parameters are named after the first such task."""

    @staticmethod
    def of(kinds: Mapping[str, Kind], build: Callable[[Kind], nn.Module]) -> PerTask:
        """`kinds`: by task, what the module depends on."""
        built: dict[Kind, nn.Module] = {}
        for kind in kinds.values():
            if kind not in built:
                built[kind] = build(kind)
        return PerTask({task: built[kind] for task, kind in kinds.items()})


def trainables_of(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


def optimizer_of(module: nn.Module, stage: StageConfig) -> torch.optim.Optimizer:
    """The recipe's optimiser (AdamW or SGD). Every group has an `lr_scale`, the factor of its learning rate."""
    owners = owners_of(module)
    fast = {id(value) for part in module.modules() if learns_at_token_rate(part) for value in part.parameters()}
    members: dict[tuple[str, float], list[nn.Parameter]] = {}
    for value in trainables_of(module).values():
        scale = stage.token_lr_scale if id(value) in fast else 1.0
        members.setdefault((owners.get(id(value), ""), scale), []).append(value)
    groups = [{"params": values, "lr_scale": scale} for (_, scale), values in members.items()]
    if stage.optimizer == Optimizer.adamw:
        return torch.optim.AdamW(groups, stage.lr, (0.9, stage.beta2), weight_decay=stage.weight_decay)
    return torch.optim.SGD(groups, stage.lr, weight_decay=stage.weight_decay)


def owners_of(module: nn.Module) -> dict[int, str]:
    """By id of a parameter, the module it belongs to that some steps do not use; parameters that every step uses are
    left out."""
    owners: dict[int, str] = {}
    for prefix, part in module.named_modules():
        if isinstance(part, PerTask):
            owners |= {id(value): f"{prefix}.{task}" for task, child in part.items() for value in child.parameters()}
        elif getattr(part, "is_idle_in_some_steps", False):
            owners |= {id(value): prefix for value in part.parameters()}
    return owners


def learns_at_token_rate(module: nn.Module) -> bool:
    """Whether a module's parameters learn `token_lr_scale` times as fast as the rest."""
    return getattr(module, "learns_at_token_rate", False)
