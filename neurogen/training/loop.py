"""The one training loop, of both stages: resume, update, validate, checkpoint, stop, log.

The loop asks for the loss of (step, context) and never sees a backbone. All randomness of a step is drawn from seeds
made of the step's number, so a checkpoint holds what is trained, the optimiser's state and the number of steps, and
a killed and resumed run ends in the same bits as an undisturbed one.

Several ranks share the contexts of a step, so neither the global batch nor the number of steps depends on how many
they are; nor does a checkpoint, which rank 0 writes whole.
"""

from __future__ import annotations

import json
import math
import resource
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from neurogen import store
from neurogen.config import BackboneConfig, StageConfig
from neurogen.errors import Interrupted, UserError
from neurogen.experiment import require_shares
from neurogen.progress import Progress
from neurogen.training.engine import Engine, Trainables, optimizer_of, trainables_of
from neurogen.training.runtime import Runtime

Row = dict[str, float]
Validate = Callable[[], Row]
Generate = Callable[..., Tensor]  # the module's forward pass, as the engine runs it
CHECKPOINTS_KEPT = 2


@dataclass(frozen=True)
class Objective:
    """One stage, as the loop sees it."""

    name: str
    module: nn.Module
    loss: Callable[[Generate, int, int], Tensor]  # (module, step, context) → scalar
    validate: Validate  # its row has validation_loss and validation_accuracy
    num_tokens_read: Callable[[], int]  # by the backbone of this rank, so far
    passes_per_step: int  # of the backbone: there and back, and there again where activations are not kept
    steps_per_epoch: int


@dataclass
class Progressed:
    """How far a run is: what a checkpoint holds beside the engine's state."""

    step: int = 0
    history: list[Row] = field(default_factory=list)
    best_accuracy: float = -1.0
    best: dict[str, Tensor] = field(default_factory=dict)  # empty unless the best values are to be kept


def train(objective: Objective, stage: StageConfig, folder: Path, checkpoint_every: int, runtime: Runtime) -> list[Row]:
    """Run the stage to its end and leave the module at the values that `stage.keep` asks for. Returns the history.

    Raises Interrupted after saving when a stop flag is set, UserError when the loss is no longer finite, or the ranks
    cannot share the contexts of a step.
    """
    require_shares(objective.name, stage, runtime.ranks.size)
    trainables = trainables_of(objective.module)
    so_far, moments = _resume(trainables, folder / "checkpoints", runtime)
    engine = runtime.engine(objective.module, optimizer_of(trainables, stage), stage, moments)
    num_steps = steps_of(stage, objective.steps_per_epoch)
    with ExitStack() as stack:
        report = (
            stack.enter_context(Report(objective.name, folder, num_steps, so_far.step)) if runtime.is_first else None
        )
        if not so_far.history:
            _record(objective, engine, so_far, {"step": 0.0}, True, stage.keep, runtime)
        while so_far.step < num_steps:
            row = _step(objective, engine, stage, so_far.step, num_steps, runtime)
            so_far.step += 1
            last = so_far.step == num_steps
            due = last or so_far.step % stage.validate_every == 0
            _record(objective, engine, so_far, row, due, stage.keep, runtime)
            if report is not None:
                report.show(so_far.history)
            stops = runtime.any_stops()
            if last or stops or so_far.step % checkpoint_every == 0:
                _save(engine, so_far, folder / "checkpoints", runtime)
            if stops and not last:
                runtime.ranks.barrier()  # nobody leaves before rank 0 has written
                raise Interrupted
    engine.release()
    with torch.no_grad():
        for name, best in so_far.best.items():
            trainables[name].copy_(best)
    return so_far.history


class Report:
    """What is seen of a run: TensorBoard, and progress with the remaining time."""

    def __init__(self, name: str, folder: Path, num_steps: int, first: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=first + 1)
        self.progress = Progress(name, num_steps, unit="steps", first=first)

    def __enter__(self) -> Report:
        self.writer.__enter__()
        self.progress.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.__exit__(*error)
        self.writer.close()

    def show(self, history: list[Row]) -> None:
        for name, value in history[-1].items():
            if name != "step":
                self.writer.add_scalar(name, value, round(history[-1]["step"]))
        self.progress.advance(1, _note(history))


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


def passes_of(backbone: BackboneConfig) -> int:
    return 3 if backbone.gradient_checkpointing else 2


def _step(objective: Objective, engine: Engine, stage: StageConfig, step: int, num_steps: int, runtime: Runtime) -> Row:
    started, tokens_before, total = time.monotonic(), objective.num_tokens_read(), 0.0
    for context in engine.contexts:
        loss = objective.loss(engine, step, context)
        engine.backward(loss)
        total += loss.item()
    loss_of_all = sum(mean for (mean,) in runtime.ranks.all_gather([total / len(engine.contexts)])) / runtime.ranks.size
    if not math.isfinite(loss_of_all):
        raise UserError(
            f"{objective.name}: the loss is {loss_of_all} at step {step}; "
            f"lower recipe.{objective.name}.lr (now {stage.lr})"
        )
    lr = learning_rate(stage, step, num_steps, objective.steps_per_epoch)
    norm = engine.update(lr)
    tokens, seconds = objective.num_tokens_read() - tokens_before, time.monotonic() - started
    row = {"step": step + 1.0, "loss": loss_of_all, "lr": lr, "grad_norm": norm}
    return row | _speed(objective, engine, tokens, seconds, runtime)


def _speed(objective: Objective, engine: Engine, tokens: int, seconds: float, runtime: Runtime) -> Row:
    """Tokens are of all ranks, memory of the rank that has most and, with several, of every one."""
    ranks = runtime.ranks.all_gather([float(tokens), seconds, memory_gb(runtime.device)])
    all_tokens, slowest = sum(one[0] for one in ranks), max(one[1] for one in ranks)
    row = {"tokens_per_s": all_tokens / slowest, "step_s": slowest, "memory_gb": max(one[2] for one in ranks)}
    if len(ranks) > 1:
        row |= {f"memory_gb_of_rank/{rank}": one[2] for rank, one in enumerate(ranks)}
    if runtime.peak_tflops is not None:
        flops = 2 * objective.passes_per_step * num_multiplied(objective.module, engine) * all_tokens
        row["mfu"] = flops / slowest / (runtime.peak_tflops * 1e12 * len(ranks))
    return row


def num_multiplied(module: nn.Module, engine: Engine) -> int:
    """Parameters that every token is multiplied with: all but the tables that are looked up."""
    tables = {id(value) for part in module.modules() if isinstance(part, nn.Embedding) for value in part.parameters()}
    return sum(engine.numel(value) for value in module.parameters() if id(value) not in tables)


def memory_gb(device: torch.device) -> float:
    """The most that this process has held at a time: of the GPU, or on a CPU of the host."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _record(
    objective: Objective, engine: Engine, so_far: Progressed, row: Row, validate: bool, keep: str, runtime: Runtime
) -> None:
    """Add the row to the history, with the figures on validation where it is time for them."""
    if validate:
        row |= runtime.ranks.broadcast(objective.validate())
        if keep == "best" and row["validation_accuracy"] >= so_far.best_accuracy:
            so_far.best_accuracy = row["validation_accuracy"]
            so_far.best = engine.values()
    so_far.history.append(row)


def _note(history: list[Row]) -> str:
    validated = [row["validation_accuracy"] for row in history if "validation_accuracy" in row]
    return f"loss {history[-1]['loss']:.3f}" + (f", val. acc. {100 * validated[-1]:.1f} %" if validated else "")


def _save(engine: Engine, so_far: Progressed, folder: Path, runtime: Runtime) -> None:
    """All ranks gather what is trained; rank 0 writes."""
    state = {"value": engine.values(), "optimizer": engine.moments(), "best": so_far.best}
    if not runtime.is_first:
        return
    tensors = {f"{kind}/{name}": value for kind, named in state.items() for name, value in named.items()}
    about = {"step": so_far.step, "history": so_far.history, "best_accuracy": so_far.best_accuracy}
    path = folder / f"step-{so_far.step:06d}.safetensors"
    store.write_tensors(path, tensors, {"progress": json.dumps(about)})
    for old in sorted(folder.glob("step-*.safetensors"))[:-CHECKPOINTS_KEPT]:
        old.unlink()


def _resume(trainables: Trainables, folder: Path, runtime: Runtime) -> tuple[Progressed, dict[str, Tensor]]:
    """Continue from the newest whole checkpoint: its values go into the trainables, the optimiser's moments are
    returned. Rank 0 chooses, so that no rank reads another one."""
    path = runtime.ranks.broadcast(_newest(folder) if runtime.is_first else None)
    if path is None:
        return Progressed(), {}
    tensors, so_far = _read(path)
    values, moments = _named("value", tensors), _named("optimizer", tensors)
    so_far.best = _named("best", tensors)
    _refuse_foreign(path, values, moments, so_far.best, trainables)
    with torch.no_grad():
        for name, value in values.items():
            trainables[name].copy_(value)
    if runtime.is_first:
        print(f"  continuing from step {so_far.step}", flush=True)
    return so_far, moments


def _newest(folder: Path) -> Path | None:
    """A broken checkpoint is named and passed over."""
    for path in sorted(folder.glob("step-*.safetensors"), reverse=True):
        try:
            _read(path)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            print(f"  warning: checkpoint {path} is broken ({error}); trying the one before", flush=True)
            continue
        return path
    return None


def _read(path: Path) -> tuple[dict[str, Tensor], Progressed]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        about = json.loads(file.metadata()["progress"])
    return tensors, Progressed(about["step"], about["history"], about["best_accuracy"])


def _named(kind: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{kind}/"): value for name, value in tensors.items() if name.startswith(f"{kind}/")}


def _refuse_foreign(
    path: Path,
    values: dict[str, Tensor],
    moments: dict[str, Tensor],
    best: dict[str, Tensor],
    trainables: Trainables,
) -> None:
    """Every value, moment and best value must have the shape of a trainable, and every trainable a value."""
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
