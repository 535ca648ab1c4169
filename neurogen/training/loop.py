"""The training loop of both stages: resume, update, validate, save, stop, log.

in:  an `Objective`, which gives the losses of a step's contexts; the loop never sees a backbone
out: the module at its final or its best values; the history, one row per step

All randomness of a step comes from seeds made of the step's index. So a checkpoint holds the trained values, the
optimiser's state and the number of steps, and a run that was killed and resumed ends in the same bits as an undisturbed
one. Several ranks share the contexts of a step: the global batch and the number of steps do not depend on the number of
ranks. Nor does a checkpoint, which rank 0 writes unsharded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurogen.config import BackboneConfig, CheckpointInterval, Keep, StageConfig, StageSchedule
from neurogen.config.rules import require_shares
from neurogen.errors import Interrupted, UserError
from neurogen.progress import Progress
from neurogen.training.checkpoint import Checkpoints, TrainingState, resume
from neurogen.training.engine import Engine
from neurogen.training.groups import optimizer_of, trainables_of
from neurogen.training.history import Metrics
from neurogen.training.memory import peak_memory_gb
from neurogen.training.runtime import Runtime
from neurogen.training.speed import Account, Speed

Validate = Callable[[], Metrics]
Forward = Callable[..., Tensor]  # the module's forward pass, as the engine runs it
Losses = Callable[
    [Forward, int, Sequence[int]], Float[Tensor, " contexts"]
]  # of a step's contexts; the int is the step


@dataclass(frozen=True)
class Objective:
    """A stage, as the loop sees it."""

    name: str
    module: nn.Module
    losses: Losses
    batch_size: int  # contexts of one forward pass, at most
    validate: Validate  # its row has validation_loss and validation_accuracy
    num_tokens_read: Callable[[], int]  # by the backbone of this rank, so far
    passes_per_step: int  # of the backbone: forward, backward, and forward again with gradient checkpointing
    steps_per_epoch: int
    encoder: nn.Module | None = None  # the part of the module that reads pictures instead of tokens


def train(
    objective: Objective, stage: StageConfig, folder: Path, interval: CheckpointInterval, runtime: Runtime
) -> list[Metrics]:
    """Run the stage to its end and leave the module at the values that `stage.keep` asks for. Returns the history.

    Raises Interrupted, after saving, when a stop flag is set. Raises UserError when the loss or its gradient is not
    finite, a checkpoint cannot be written, or the ranks cannot share the contexts of a step equally.
    """
    require_shares(objective.name, stage, runtime.ranks.size)
    trainables = trainables_of(objective.module)
    state, moments = resume(trainables, folder / "checkpoints", runtime)
    optimizer = optimizer_of(objective.module, stage)
    engine = runtime.engine(objective.module, optimizer, stage, objective.batch_size, moments)
    num_steps = steps_of(stage, objective.steps_per_epoch)
    speed = Speed(objective.module, objective.encoder, objective.passes_per_step, engine, runtime)
    with ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpoints(folder / "checkpoints", interval, state, runtime))
        log = stack.enter_context(Log(objective.name, folder, num_steps, state.step)) if runtime.is_first else None
        if state.step == 0:
            _record(objective, engine, state, {"step": 0.0}, True, stage.keep, runtime)
        while state.step < num_steps:
            update = _step(objective, engine, stage, state.step, num_steps)
            state.step += 1
            account = update.account(runtime, checkpoints.is_due(state.step))
            accounts = account.exchanged(runtime.ranks)
            row = _row(objective, stage, state.step, update, accounts) | speed.row_of(accounts)
            is_last = state.step == num_steps
            is_validated = is_last or state.step % stage.validate_every == 0
            _record(objective, engine, state, row, is_validated, stage.keep, runtime)
            if log is not None:
                log.write(state.history)
            is_stopped = any(account.stops for account in accounts)
            if is_last or is_stopped or accounts[0].saves:
                checkpoints.save(engine, state)
            if is_stopped and not is_last:
                checkpoints.wait()
                runtime.ranks.barrier()  # no rank leaves before rank 0 has written
                raise Interrupted
        checkpoints.wait()
    engine.release()
    with torch.no_grad():
        for name, best in state.best.items():
            trainables[name].copy_(best)
    return state.history


class Log:
    """TensorBoard, and progress with the remaining time."""

    def __init__(self, name: str, folder: Path, num_steps: int, first_step: int) -> None:
        from neurogen.events import Events

        self.events = Events(folder, purge_step=first_step + 1)
        self.progress = Progress(name, num_steps, unit="steps", first=first_step)

    def __enter__(self) -> Log:
        self.events.__enter__()
        self.progress.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.__exit__(*error)
        self.events.__exit__(*error)

    def write(self, history: list[Metrics]) -> None:
        """The last row of the history."""
        with self.events.adding() as writer:
            for name, value in history[-1].items():
                if name != "step":
                    writer.add_scalar(name, value, round(history[-1]["step"]))
        newest = next((row for row in reversed(history) if "validation_accuracy" in row), None)  # a few rows back
        accuracy = "" if newest is None else f", val. acc. {100 * newest['validation_accuracy']:.1f} %"
        self.progress.advance(1, f"loss {history[-1]['loss']:.3f}{accuracy}")


def steps_of(stage: StageConfig, steps_per_epoch: int) -> int:
    """The number of steps of a stage."""
    if stage.steps is not None:
        return stage.steps
    assert stage.epochs is not None
    return stage.epochs * steps_per_epoch


def learning_rate(stage: StageConfig, step: int, num_steps: int, steps_per_epoch: int) -> float:
    """Linear warm-up, then a cosine to 0, or halving every `halve_every` epochs (paper 4.1)."""
    warm = min(1.0, (step + 1) / (stage.warmup_steps + 1))
    if stage.schedule == StageSchedule.halving:
        return stage.lr * warm * 0.5 ** (step // (stage.halve_every * steps_per_epoch))
    done = max(0, step - stage.warmup_steps) / max(1, num_steps - stage.warmup_steps)
    return stage.lr * warm * 0.5 * (1 + math.cos(math.pi * done))


def passes_of(backbone: BackboneConfig, reads_again: bool) -> int:
    """Passes through the backbone per step: gradient checkpointing, and tokens in blocks, repeat the forward pass."""
    return 3 if backbone.gradient_checkpointing or reads_again else 2


@dataclass(frozen=True)
class Update:
    """One step of this rank."""

    loss: float  # mean over its contexts
    lr: float
    grad_norm: float  # of all ranks
    num_tokens: int
    seconds: float

    def account(self, runtime: Runtime, saves: bool) -> Account:
        """What this rank tells the others."""
        memory, stops = peak_memory_gb(runtime.device), runtime.stop.is_set()
        return Account(self.loss, self.num_tokens, self.seconds, memory, float(stops), float(saves))


def _step(objective: Objective, engine: Engine, stage: StageConfig, step: int, num_steps: int) -> Update:
    """The gradients of all contexts, and one update."""
    started, tokens_before, losses = time.monotonic(), objective.num_tokens_read(), []
    for contexts in engine.batches:
        of_batch = objective.losses(engine, step, contexts)
        engine.backward(of_batch)
        losses.append(of_batch.detach().double())
    lr = learning_rate(stage, step, num_steps, objective.steps_per_epoch)
    norm = engine.update(lr)
    loss = torch.cat(losses).mean().item()
    num_tokens, seconds = objective.num_tokens_read() - tokens_before, time.monotonic() - started
    return Update(loss, lr, norm, num_tokens, seconds)


def _row(objective: Objective, stage: StageConfig, step: int, update: Update, accounts: Sequence[Account]) -> Metrics:
    """What the step was. Raises UserError, on all ranks, where the mean of their losses, or the norm of their common
    gradient, is not finite."""
    loss = sum(account.loss for account in accounts) / len(accounts)
    for what, value in (("the loss", loss), ("the norm of the gradient", update.grad_norm)):
        if not math.isfinite(value):
            raise UserError(
                f"{objective.name}: {what} is {value} at step {step}; lower recipe.{objective.name}.lr (now {stage.lr})"
            )
    return {"step": float(step), "loss": loss, "lr": update.lr, "grad_norm": update.grad_norm}


def _record(
    objective: Objective,
    engine: Engine,
    state: TrainingState,
    row: Metrics,
    validate: bool,
    keep: Keep,
    runtime: Runtime,
) -> None:
    """Add a row to the history, with validation where it is due."""
    if validate:
        row |= runtime.ranks.broadcast(objective.validate())
        if keep == Keep.best and row["validation_accuracy"] >= state.best_accuracy:
            state.best_accuracy = row["validation_accuracy"]
            state.best = engine.values()
    state.history.append(row)
