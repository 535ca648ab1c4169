"""Checkpoints of a stage: checkpoints/step-000025.safetensors, of which the two newest are kept.

value/NAME             what is trained
optimizer/MOMENT/NAME  the optimiser's state
best/NAME              the best values so far, where stage.keep=best
metadata               number of steps, history, best accuracy (JSON)
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from neurogen import store
from neurogen.errors import UserError
from neurogen.training.engine import Engine
from neurogen.training.groups import Trainables
from neurogen.training.runtime import Runtime

Metrics = dict[str, float]  # what was measured at one step, by name
CHECKPOINTS_KEPT = 2


@dataclass
class TrainingState:
    """How far a run is: what a checkpoint holds beside the engine's state."""

    step: int = 0
    history: list[Metrics] = field(default_factory=list)
    best_accuracy: float = -1.0
    best: dict[str, Tensor] = field(default_factory=dict)  # empty unless stage.keep=best


def save(engine: Engine, state: TrainingState, folder: Path, runtime: Runtime) -> None:
    """All ranks gather the trained values; rank 0 writes them."""
    parts = {"value": engine.values(), "optimizer": engine.moments(), "best": state.best}
    if not runtime.is_first:
        return
    tensors = {f"{kind}/{name}": value for kind, named in parts.items() for name, value in named.items()}
    metadata = {"step": state.step, "history": state.history, "best_accuracy": state.best_accuracy}
    path = folder / f"step-{state.step:06d}.safetensors"
    store.write_tensors(path, tensors, {"progress": json.dumps(metadata)})
    for old in sorted(folder.glob("step-*.safetensors"))[:-CHECKPOINTS_KEPT]:
        old.unlink()


def resume(trainables: Trainables, folder: Path, runtime: Runtime) -> tuple[TrainingState, dict[str, Tensor]]:
    """The state of the newest intact checkpoint, and the optimiser's moments; its values go into the trainables.

    Rank 0 chooses, so that all ranks read the same one. Raises UserError for the checkpoint of another generator.
    """
    path = runtime.ranks.broadcast(_newest(folder) if runtime.is_first else None)
    if path is None:
        return TrainingState(), {}
    tensors, state = _read(path)
    values, moments = _named("value", tensors), _named("optimizer", tensors)
    state.best = _named("best", tensors)
    _refuse_foreign(path, values, moments, state.best, trainables)
    with torch.no_grad():
        for name, value in values.items():
            trainables[name].copy_(value)
    if runtime.is_first:
        print(f"  continuing from step {state.step}", flush=True)
    return state, moments


def _newest(folder: Path) -> Path | None:
    """The newest checkpoint that can be read; broken ones are named and skipped."""
    for path in sorted(folder.glob("step-*.safetensors"), reverse=True):
        try:
            _read(path)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            print(f"  warning: checkpoint {path} is broken ({error}); trying the one before", flush=True)
            continue
        return path
    return None


def _read(path: Path) -> tuple[dict[str, Tensor], TrainingState]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        metadata = json.loads(file.metadata()["progress"])
    return tensors, TrainingState(metadata["step"], metadata["history"], metadata["best_accuracy"])


def _named(kind: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{kind}/"): value for name, value in tensors.items() if name.startswith(f"{kind}/")}


def _refuse_foreign(
    path: Path,
    values: dict[str, Tensor],
    moments: dict[str, Tensor],
    best: dict[str, Tensor],
    trainables: Trainables,
) -> None:
    """Every value, moment and best value must have the shape of a trainable, and every trainable must have a value."""
    shapes = {name: list(value.shape) for name, value in trainables.items()}
    saved = [*values.items(), *best.items(), *((key.partition("/")[2], value) for key, value in moments.items())]
    differing = {
        name: f"{name} ({list(value.shape)} there, {shapes.get(name, 'nothing')} here)"
        for name, value in saved
        if name not in shapes or (value.dim() and list(value.shape) != shapes[name])
    } | {name: f"{name} (nothing there)" for name in shapes if name not in values}
    if differing:
        names = ", ".join(sorted(differing.values())[:3])
        raise UserError(f"checkpoint {path} belongs to another generator: it differs in {names}; delete it")
