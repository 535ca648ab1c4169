"""The one training loop, of both stages: resume, update, validate, checkpoint, stop, log.

The loop asks for the loss of (step, context) and never sees a backbone. All randomness of a step is drawn from seeds
made of the step's number, so a checkpoint holds what is trained, the optimiser's state and the number of steps, and
a killed and resumed run ends in the same bits as an undisturbed one.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from neurogen import store
from neurogen.config import StageConfig
from neurogen.engine import Engine, Trainables
from neurogen.errors import Interrupted, UserError
from neurogen.progress import Progress
from neurogen.runtime import Runtime

Row = dict[str, float]
Validate = Callable[[], Row]
CHECKPOINTS_KEPT = 2


@dataclass(frozen=True)
class Objective:
    """One stage, as the loop sees it."""

    name: str
    trainables: Trainables
    loss: Callable[[int, int], Tensor]  # (step, context) → scalar
    validate: Validate  # its row has validation_loss and validation_accuracy
    num_tokens_read: Callable[[], int]  # by the backbone, so far
    steps_per_epoch: int


@dataclass
class Progressed:
    """How far a run is: what a checkpoint holds beside the engine's state."""

    step: int = 0
    history: list[Row] = field(default_factory=list)
    best_accuracy: float = -1.0
    best: dict[str, Tensor] = field(default_factory=dict)  # empty unless the best values are to be kept


def train(objective: Objective, stage: StageConfig, folder: Path, checkpoint_every: int, runtime: Runtime) -> list[Row]:
    """Run the stage to its end and leave the trainables at the values that `stage.keep` asks for. Returns the history.

    Raises Interrupted after saving when the stop flag is set, UserError when the loss is no longer finite.
    """
    from torch.utils.tensorboard import SummaryWriter

    engine = runtime.engine(objective.trainables, stage)
    so_far = _resume(engine, objective.trainables, folder / "checkpoints")
    num_steps = steps_of(stage, objective.steps_per_epoch)
    with (
        SummaryWriter(str(folder), purge_step=so_far.step + 1) as writer,
        Progress(objective.name, num_steps, unit="steps", first=so_far.step) as progress,
    ):
        if not so_far.history:
            _record(objective, so_far, {"step": 0.0}, validate=True, keep=stage.keep)
        while so_far.step < num_steps:
            row = _step(objective, engine, stage, so_far.step, num_steps)
            so_far.step += 1
            last = so_far.step == num_steps
            due = last or so_far.step % stage.validate_every == 0
            _record(objective, so_far, row, due, stage.keep)
            for name, value in row.items():
                if name != "step":
                    writer.add_scalar(name, value, so_far.step)
            progress.advance(1, _note(so_far.history))
            if last or runtime.stop.is_set() or so_far.step % checkpoint_every == 0:
                _save(engine, so_far, folder / "checkpoints")
            if runtime.stop.is_set() and not last:
                raise Interrupted
    with torch.no_grad():
        for name, best in so_far.best.items():
            objective.trainables[name].copy_(best)
    return so_far.history


def steps_of(stage: StageConfig, steps_per_epoch: int) -> int:
    if stage.steps is not None:
        return stage.steps
    assert stage.epochs is not None
    return stage.epochs * steps_per_epoch


def learning_rate(stage: StageConfig, step: int, num_steps: int, steps_per_epoch: int) -> float:
    """Linear warm-up, then a cosine to 0, or halving every `halve_every` epochs (paper 4.1)."""
    warm = min(1.0, (step + 1) / (stage.warmup_steps + 1))
    if stage.schedule == "halving":
        return stage.lr * warm * 0.5 ** (step // (stage.halve_every * steps_per_epoch))
    done = max(0, step - stage.warmup_steps) / max(1, num_steps - stage.warmup_steps)
    return stage.lr * warm * 0.5 * (1 + math.cos(math.pi * done))


def _step(objective: Objective, engine: Engine, stage: StageConfig, step: int, num_steps: int) -> Row:
    started, tokens_before, total = time.monotonic(), objective.num_tokens_read(), 0.0
    for context in range(stage.contexts_per_step):
        loss = objective.loss(step, context)
        engine.backward(loss / stage.contexts_per_step)
        total += loss.item()
    if not math.isfinite(total):
        raise UserError(
            f"{objective.name}: the loss is {total} at step {step}; lower recipe.{objective.name}.lr (now {stage.lr})"
        )
    lr = learning_rate(stage, step, num_steps, objective.steps_per_epoch)
    norm = engine.update(lr)
    return {
        "step": step + 1.0,
        "loss": total / stage.contexts_per_step,
        "lr": lr,
        "grad_norm": norm,
        "tokens_per_s": (objective.num_tokens_read() - tokens_before) / (time.monotonic() - started),
    }


def _record(objective: Objective, so_far: Progressed, row: Row, validate: bool, keep: str) -> None:
    """Add the row to the history, with the figures on validation where it is time for them."""
    if validate:
        row |= objective.validate()
        if keep == "best" and row["validation_accuracy"] >= so_far.best_accuracy:
            so_far.best_accuracy = row["validation_accuracy"]
            so_far.best = {name: value.detach().clone() for name, value in objective.trainables.items()}
    so_far.history.append(row)


def _note(history: list[Row]) -> str:
    validated = [row["validation_accuracy"] for row in history if "validation_accuracy" in row]
    return f"loss {history[-1]['loss']:.3f}" + (f", val. acc. {100 * validated[-1]:.1f} %" if validated else "")


def _save(engine: Engine, so_far: Progressed, folder: Path) -> None:
    tensors = engine.state() | {f"best/{name}": value for name, value in so_far.best.items()}
    about = {"step": so_far.step, "history": so_far.history, "best_accuracy": so_far.best_accuracy}
    path = folder / f"step-{so_far.step:06d}.safetensors"
    store.write_tensors(path, tensors, {"progress": json.dumps(about)})
    for old in sorted(folder.glob("step-*.safetensors"))[:-CHECKPOINTS_KEPT]:
        old.unlink()


def _resume(engine: Engine, trainables: Trainables, folder: Path) -> Progressed:
    """Continue from the newest whole checkpoint; a broken one is named and passed over."""
    for path in sorted(folder.glob("step-*.safetensors"), reverse=True):
        try:
            state, so_far = _read(path)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            print(f"  warning: checkpoint {path} is broken ({error}); trying the one before", flush=True)
            continue
        _refuse_foreign(path, state | {f"best/{name}": value for name, value in so_far.best.items()}, trainables)
        engine.load(state)
        print(f"  continuing from step {so_far.step}", flush=True)
        return so_far
    return Progressed()


def _read(path: Path) -> tuple[dict[str, Tensor], Progressed]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        about = json.loads(file.metadata()["progress"])
    best = {name.removeprefix("best/"): tensors.pop(name) for name in list(tensors) if name.startswith("best/")}
    return tensors, Progressed(about["step"], about["history"], about["best_accuracy"], best)


def _refuse_foreign(path: Path, state: dict[str, Tensor], trainables: Trainables) -> None:
    """Every value, moment and best value must have the shape of a trainable, and every trainable a value."""
    shapes = {name: tuple(value.shape) for name, value in trainables.items()}
    differing = {name for name in shapes if f"value/{name}" not in state}
    for key, value in state.items():
        name = key.split("/", 2 if key.startswith("optimizer/") else 1)[-1]
        if name not in shapes or (value.dim() and tuple(value.shape) != shapes[name]):
            differing.add(name)
    if differing:
        names = ", ".join(sorted(differing)[:3])
        raise UserError(f"checkpoint {path} belongs to another generator: it differs in {names}; delete it")
