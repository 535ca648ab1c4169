"""Checkpoints of a stage: checkpoints/step-000025.safetensors, of which the two newest are kept.

value/NAME             what is trained
optimizer/MOMENT/NAME  the optimiser's state
best/NAME              the best values so far, where stage.keep=best
metadata               number of steps, best accuracy, the digest of that and of all tensors (JSON)

The history is a file of its own (history.py). Training waits only until values and moments are copied to the host; a
thread of rank 0 writes them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from neurogen import store
from neurogen.config import CheckpointInterval
from neurogen.errors import UserError
from neurogen.training.engine import Engine
from neurogen.training.groups import Trainables
from neurogen.training.history import FILE, Metrics, append_rows, read_rows, write_rows
from neurogen.training.runtime import Runtime

CHECKPOINTS_KEPT = 2


@dataclass
class TrainingState:
    """How far a run is: what a checkpoint holds beside the engine's state, and the history."""

    step: int = 0
    history: list[Metrics] = field(default_factory=list)
    best_accuracy: float = -1.0
    best: dict[str, Tensor] = field(default_factory=dict)  # empty unless stage.keep=best; replaced, never changed


class Checkpoints:
    """Saves a run. Leaving it as a context waits for the writer."""

    def __init__(self, folder: Path, interval: CheckpointInterval, state: TrainingState, runtime: Runtime) -> None:
        """`state` is that from which the run goes on."""
        self.folder, self.interval, self.runtime = folder, interval, runtime
        self.num_rows = len(state.history)  # that are in the file
        self.saved_at = time.monotonic()
        self.thread = ThreadPoolExecutor(1, "checkpoint")
        self.writing: Future[None] | None = None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *error: object) -> None:
        self.thread.shutdown()

    def is_due(self, step: int) -> bool:
        """Whether this rank would save after so many steps. Clocks differ, so rank 0's answer counts.

        Raises UserError where the last checkpoint could not be written.
        """
        if self.writing is not None and self.writing.done():
            self.wait()
        every, minutes = self.interval.steps, self.interval.minutes
        by_steps = every is not None and step % every == 0
        return by_steps or (minutes is not None and time.monotonic() - self.saved_at >= 60 * minutes)

    def save(self, engine: Engine, state: TrainingState) -> None:
        """All ranks gather the trained values; rank 0 begins to write them. A save before this one is waited for.

        Raises UserError where that one could not be written.
        """
        self.wait()
        self.saved_at = time.monotonic()
        parts = {"value": engine.values(), "optimizer": engine.moments(), "best": state.best}
        if not self.runtime.is_first:
            return
        tensors = on_host({f"{kind}/{name}": value for kind, named in parts.items() for name, value in named.items()})
        progress = {"step": state.step, "best_accuracy": state.best_accuracy}
        rows, self.num_rows = state.history[self.num_rows :], len(state.history)
        self.writing = self.thread.submit(_write, self.folder, state.step, tensors, progress, rows)

    def wait(self) -> None:
        """Until the writer is done. Raises UserError where it could not write."""
        if self.writing is not None:
            writing, self.writing = self.writing, None
            writing.result()


def _write(
    folder: Path, step: int, tensors: Mapping[str, Tensor], progress: dict[str, float], rows: list[Metrics]
) -> None:
    path = folder / f"step-{step:06d}.safetensors"
    append_rows(folder / FILE, rows)
    about = json.dumps(progress | {"sha256": _digest(tensors, progress)})
    store.write_tensors(path, tensors, {"progress": about})
    _remove_before(path)


def _remove_before(path: Path) -> None:
    """Of this checkpoint and those before it, keep the newest. Raises UserError where one cannot be removed."""
    no_newer = sorted(other for other in path.parent.glob("step-*.safetensors") if other <= path)  # newer: broken
    with store.writing(path.parent):
        for old in no_newer[:-CHECKPOINTS_KEPT]:
            old.unlink()


def on_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in the host's memory. Those of a GPU go into pinned memory, many at a time."""
    copies = dict(tensors)
    for name, value in tensors.items():
        if value.is_cuda:
            copies[name] = torch.empty(value.shape, dtype=value.dtype, pin_memory=True).copy_(value, non_blocking=True)
    if any(value.is_cuda for value in tensors.values()):
        torch.cuda.synchronize()
    return copies


def resume(trainables: Trainables, folder: Path, runtime: Runtime) -> tuple[TrainingState, dict[str, Tensor]]:
    """The state of the newest intact checkpoint, and the optimiser's moments; its values go into the trainables.

    Rank 0 chooses, so that all ranks read the same one. Raises UserError for the checkpoint of another generator.
    """
    path = runtime.ranks.broadcast(_newest(folder) if runtime.is_first else None)
    if path is None:
        if runtime.is_first:
            (folder / FILE).unlink(missing_ok=True)
        return TrainingState(), {}
    tensors, state = _read(path)
    values, moments = _named("value", tensors), _named("optimizer", tensors)
    state.best = _named("best", tensors)
    _refuse_foreign(path, values, moments, state.best, trainables)
    with torch.no_grad():
        for name, value in values.items():
            trainables[name].copy_(value)
    if runtime.is_first:
        _remove_before(path)  # a writer that was killed has not come to it
        print(f"  continuing from step {state.step}", flush=True)
        state.history = _cut_back(folder / FILE, state)
    state.history = runtime.ranks.broadcast(state.history)
    return state, moments


def _cut_back(path: Path, state: TrainingState) -> list[Metrics]:
    """The history up to the checkpoint, and the file cut back to it. Says so where a part is missing.

    Checkpoints of earlier versions hold the history themselves.
    """
    history = [row for row in state.history or read_rows(path) if row["step"] <= state.step]
    if len(history) != state.step + 1:
        print(f"  warning: {path} has {len(history)} of {state.step + 1} rows; learning curves have a gap", flush=True)
    write_rows(path, history)
    return history


def _newest(folder: Path) -> Path | None:
    """The newest checkpoint that can be read; broken ones are named and skipped.

    A listing with files that are gone is an old one, as network file systems give, so it is made again.
    """
    for may_be_gone in (False, False, True):
        with suppress(FileNotFoundError):
            newest_first = sorted(folder.glob("step-*.safetensors"), reverse=True)
            return next((path for path in newest_first if _is_intact(path, may_be_gone)), None)
    return None


def _is_intact(path: Path, may_be_gone: bool) -> bool:
    """Whether a checkpoint can be read; says so where not. Raises FileNotFoundError unless it may be gone."""
    try:
        _read(path)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, FileNotFoundError) and not may_be_gone:
            raise
        print(f"  warning: checkpoint {path} is broken ({error}); trying the one before", flush=True)
        return False
    return True


def _read(path: Path) -> tuple[dict[str, Tensor], TrainingState]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        metadata = json.loads(file.metadata()["progress"])
    progress = {"step": metadata["step"], "best_accuracy": metadata["best_accuracy"]}
    if "sha256" in metadata and metadata["sha256"] != _digest(tensors, progress):  # earlier versions noted none
        raise ValueError("its content has changed since it was written")
    return tensors, TrainingState(metadata["step"], metadata.get("history", []), metadata["best_accuracy"])


def _digest(tensors: Mapping[str, Tensor], progress: dict[str, float]) -> str:
    digest = hashlib.sha256(json.dumps(progress).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(bytes(tensors[name].detach().contiguous().reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


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
