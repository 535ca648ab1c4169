"""What the steps of a study take, by kind: those that are done, and those to come.

in:  experiments, and what is done under their root
out: a Ledger: what was estimated and what it took; what is to come, from finished steps like it or else estimated

An estimate is for one GPU of the config `gpu`. An evaluation counts as forward passes of the backbone, as does a
validation, and a model is loaded at LOAD_GB_PER_S. Checkpoints are written beside the training and not counted, nor are
tables and plots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurogen.config import Experiment, StepKind, ZooInit
from neurogen.cost.estimate import Estimate, StageCost, estimate
from neurogen.cost.measured import Measured
from neurogen.cost.reading import num_train_of, size_of
from neurogen.study.costs import KindCost, Ledger
from neurogen.study.execution import in_order
from neurogen.study.graph import evaluations_of
from neurogen.study.pipeline import Classical, Evaluate, Inject, Reference, Tune
from neurogen.study.step import Step, name_of
from neurogen.training.loop import steps_of

LOAD_GB_PER_S = 1.0  # assumed, of a shared file system
TEXTS_PER_S = 10_000  # assumed, of a tokenizer
FORWARD = 0.5  # the share of the forward pass in a training step through frozen weights
CONDITIONS = 8  # under which every context is read: right and wrong ones, and the right one after stage 1


@dataclass(frozen=True)
class StepCost:
    """A step. Seconds, on one GPU."""

    step: Step
    estimated: float
    measured: float | None  # of the step itself where it is done, else by finished steps like it


def ledger_of(
    experiments: Sequence[Experiment],
    estimates: Mapping[str, Estimate] | None = None,
    evaluations: Sequence[Evaluate] | None = None,
) -> Ledger:
    """The ledger of a study; `estimates` by Experiment.cost_key, as far as they are known, and one evaluation each.

    Raises UserError as `estimate` and `steps_of` do.
    """
    known = dict(estimates or {})
    measured, costs = Measured(Path(experiments[0].root)), dict[str, StepCost]()
    for e, evaluation in zip(experiments, evaluations or evaluations_of(experiments), strict=True):
        cost_key = e.cost_key
        if cost_key not in known:
            known[cost_key] = estimate(e)
        for step in in_order(evaluation):
            name = name_of(step)
            if name not in costs:
                costs[name] = step_cost(step, e, known[cost_key], measured)
    kinds = tuple(kind_cost(kind, [cost for cost in costs.values() if cost.step.kind == kind]) for kind in StepKind)
    return Ledger(experiments[0].gpu.name, tuple(kind for kind in kinds if kind.num_steps))


def kind_cost(kind: StepKind, costs: Sequence[StepCost]) -> KindCost:
    """The sums over steps of one kind."""
    done = [cost for cost in costs if cost.step.is_done]
    others = [cost for cost in costs if not cost.step.is_done]
    return KindCost(
        kind,
        num_steps=len(costs),
        num_done=len(done),
        took=sum(cost.measured or 0.0 for cost in done),
        estimated=sum(cost.estimated for cost in done),
        to_come=sum(cost.estimated if cost.measured is None else cost.measured for cost in others),
        num_like=sum(cost.measured is not None for cost in others),
    )


def step_cost(step: Step, e: Experiment, cost: Estimate, measured: Measured) -> StepCost:
    """The seconds of a step of this experiment."""
    num_units, seconds_per_unit, once = work_of(step, e, cost)
    estimated = num_units * seconds_per_unit + once
    if step.is_done:
        return StepCost(step, estimated, float(step.metrics()["seconds"]))
    return StepCost(step, estimated, None if (rate := measured.rate(step)) is None else num_units * rate)


def work_of(step: Step, e: Experiment, cost: Estimate) -> tuple[float, float, float]:
    """By the estimate: (units of work as measured.units counts them, seconds of each, seconds besides)."""
    loading = cost.weight_bytes / (LOAD_GB_PER_S * 1e9)
    if isinstance(step, Reference):
        shared = step.shared_epochs if step.init == ZooInit.shared else 0
        network = cost.source if step.task.target == e.source else cost.network
        epochs = shared + step.num_networks * step.training.epochs
        return epochs, network.seconds_per_epoch(step.training.batch_size, e.gpu) * _growth(step), 0.0
    if isinstance(step, Classical):
        training = step.classical.training
        seconds = cost.network.seconds_per_epoch(training.batch_size, e.gpu)
        return step.classical.num_networks * training.epochs, seconds, 0.0
    if isinstance(step, Inject | Tune):
        stage, num_steps = _stage_of(step, cost), steps_of(step.stage, _steps_per_epoch(step))
        validating = FORWARD * stage.seconds(1) / step.stage.validate_every
        return num_steps, stage.seconds_per_step + validating, loading
    if isinstance(step, Evaluate):
        count = step.evaluate.num_contexts
        return count, CONDITIONS * FORWARD * cost.tune.seconds(count) / count, 2 * loading
    return 1, loading + cost.network.num_train / TEXTS_PER_S, 0.0


def _stage_of(step: Inject | Tune, cost: Estimate) -> StageCost:
    if isinstance(step, Inject):
        return cost.inject
    is_adaptation = isinstance(step.start, Tune)  # to a task that is held out
    return cost.adapt if is_adaptation and cost.adapt is not None else cost.tune


def _steps_per_epoch(step: Inject | Tune) -> int:
    """As the stages count it: over all tasks that the generator learns. 1 where it does not matter."""
    if step.stage.steps is not None:
        return 1
    if isinstance(step, Inject):
        return sum(reference.num_networks for zoo in step.zoos for reference in zoo.references)
    datasets = [task.dataset for task in step.tasks]
    return sum(math.ceil(num_train_of(data, size_of(data)) / step.stage.batch_size) for data in datasets)


def _growth(step: Reference) -> float:
    """By what factor an update takes longer where it has an episode beside its batch."""
    if step.few_shot is None or step.few_shot.episodes is None:
        return 1.0
    episodes = step.few_shot.episodes
    return 1 + episodes.ways * (sum(episodes.shots) / 2 + episodes.queries) / step.training.batch_size
