"""The loop: learning rates, stopping and going on, which values are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from neurogen.config import CheckpointInterval, Experiment, StageConfig
from neurogen.errors import Interrupted, UserError
from neurogen.rng import rng_of
from neurogen.training.engine import SingleProcess
from neurogen.training.groups import optimizer_of, trainables_of
from neurogen.training.loop import Forward, Objective, learning_rate, steps_of, train
from neurogen.training.runtime import Runtime

Composed = Callable[..., Experiment]
AT_THE_END = CheckpointInterval(minutes=None, steps=None)


@pytest.fixture
def stage(experiment: Composed) -> StageConfig:
    return experiment("recipe.tune.steps=12", "recipe.tune.validate_every=3", "recipe.tune.lr=0.05").recipe.tune


def regression(width: int = 3, stop_at: int | None = None, runtime: Runtime | None = None) -> Objective:
    """A line to fit to points that are drawn for each step; `stop_at` sets the stop flag in that step."""
    model = nn.Linear(width, 1)
    with torch.no_grad():
        model.weight.fill_(0.1)
        model.bias.zero_()

    def losses(run: Forward, step: int, contexts: Sequence[int]) -> Tensor:
        if step == stop_at and runtime is not None:
            runtime.stop.set()
        x = torch.stack([torch.randn(8, width, generator=rng_of(0, step, context)) for context in contexts])
        return (run(x) - x.sum(2, keepdim=True)).square().mean((1, 2))

    def validate() -> dict[str, float]:
        return {
            "validation_loss": losses(model, 10_000, [0]).item(),
            "validation_accuracy": float(model.bias.abs().sum() == 0),
        }

    return Objective("tune", model, losses, 4, validate, lambda: 0, passes_per_step=2, steps_per_epoch=4)


def values(objective: Objective) -> Tensor:
    return torch.cat([value.detach().flatten() for value in objective.module.parameters()])


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_stopped_run_ends_in_the_same_bits(tmp_path: Path, stage: StageConfig, runtime: Runtime, keep: str) -> None:
    """With keep=best the accuracy falls from the first validation on, so the best lies before both stops."""
    stage, whole = replace(stage, keep=keep), regression()
    history = train(whole, stage, tmp_path / "whole", CheckpointInterval(minutes=None, steps=2), runtime)
    for stop_at in (3, 8):
        with pytest.raises(Interrupted):
            train(regression(stop_at=stop_at, runtime=runtime), stage, tmp_path / "stopped", AT_THE_END, runtime)
        runtime.stop.clear()
    resumed = regression()
    resumed_history = train(resumed, stage, tmp_path / "stopped", AT_THE_END, runtime)
    assert torch.equal(values(resumed), values(whole))
    measured = ("step", "loss", "lr", "grad_norm", "validation_loss")
    assert [[row.get(name) for name in measured] for row in resumed_history] == [
        [row.get(name) for name in measured] for row in history
    ]


@pytest.mark.parametrize("keep", ["last", "best"])
def test_the_values_that_are_kept(tmp_path: Path, stage: StageConfig, runtime: Runtime, keep: str) -> None:
    """Accuracy rises to 0.9 at the second validation and falls afterwards."""
    accuracies = iter([0.1, 0.5, 0.9, 0.7, 0.6])
    objective, seen = regression(), []

    def validate() -> dict[str, float]:
        seen.append(values(objective).clone())
        return {"validation_loss": 1.0, "validation_accuracy": next(accuracies)}

    train(replace(objective, validate=validate), replace(stage, keep=keep), tmp_path, AT_THE_END, runtime)
    assert torch.equal(values(objective), seen[4] if keep == "last" else seen[2])
    assert not torch.equal(seen[4], seen[2])


def test_a_loss_that_is_no_number_ends_the_run_with_advice(
    tmp_path: Path, experiment: Composed, runtime: Runtime
) -> None:
    stage = experiment("recipe.tune.optimizer=sgd", "recipe.tune.lr=1e30", "recipe.tune.clip_norm=1e30").recipe.tune
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step \d+; lower recipe.tune.lr"):
        train(regression(), stage, tmp_path, AT_THE_END, runtime)


def test_a_gradient_that_is_no_number_in_the_last_step_ends_the_run_with_advice(
    tmp_path: Path, stage: StageConfig, runtime: Runtime
) -> None:
    objective = regression()

    def losses(run: Forward, step: int, contexts: Sequence[int]) -> Tensor:
        of_contexts = objective.losses(run, step, contexts)
        if step == 11:
            of_contexts.register_hook(lambda gradient: gradient * torch.nan)
        return of_contexts

    with pytest.raises(UserError, match=r"the norm of the gradient is nan at step 12; lower recipe.tune.lr"):
        train(replace(objective, losses=losses), stage, tmp_path, AT_THE_END, runtime)
    assert not list(tmp_path.glob("checkpoints/*.safetensors"))


def test_the_learning_rates_of_both_recipes(experiment: Composed) -> None:
    paper = experiment("recipe=paper", "recipe.inject.steps=null", "recipe.tune.steps=null").recipe.inject
    rates = [learning_rate(paper, step, 240, 8) for step in range(240)]
    assert rates[0] == rates[79] == 1e-3
    assert rates[80] == rates[159] == 5e-4
    assert rates[160] == 2.5e-4
    assert steps_of(paper, 8) == 30 * 8
    fast = experiment("recipe=fast", "recipe.inject.steps=50").recipe.inject
    rates = [learning_rate(fast, step, 50, 8) for step in range(50)]
    peak = max(rates)
    assert peak == fast.lr
    assert rates.index(peak) == fast.warmup_steps
    assert rates[: fast.warmup_steps + 1] == sorted(rates[: fast.warmup_steps + 1])
    assert rates[fast.warmup_steps :] == sorted(rates[fast.warmup_steps :], reverse=True)
    assert rates[-1] < 0.01 * fast.lr


def test_parameter_tokens_learn_faster_and_gradients_are_clipped(experiment: Composed) -> None:
    """Two values with the same gradient, one of them a token: one step of SGD from 0 shows rate and clipping."""
    stage = experiment("recipe.tune.optimizer=sgd", "recipe.tune.token_lr_scale=20").recipe.tune
    module = nn.Module()
    module.parameter_tokens = nn.ParameterDict({"task": torch.zeros(1)})
    module.parameter_tokens.learns_at_token_rate = True  # type: ignore[assignment]
    module.projection = nn.ParameterDict({"head": torch.zeros(1)})
    named = trainables_of(module)
    engine = SingleProcess(module, optimizer_of(module, stage), stage, 1, {})
    engine.backward((100 * named["projection.head"] + 100 * named["parameter_tokens.task"]).sum())
    assert math.isclose(engine.update(0.1), math.hypot(100, 100), rel_tol=1e-6)  # the norm before clipping to 1
    assert math.isclose(named["projection.head"].item(), -0.1 / math.sqrt(2), rel_tol=1e-4)
    assert math.isclose(named["parameter_tokens.task"].item(), -2.0 / math.sqrt(2), rel_tol=1e-4)
