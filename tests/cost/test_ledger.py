"""What steps took and will take, against the files of a finished run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neurogen.config import DatasetConfig, Experiment, StepKind
from neurogen.cost.estimate import Estimate, estimate
from neurogen.cost.ledger import CONDITIONS, FORWARD, LOAD_GB_PER_S, ledger_of, work_of
from neurogen.cost.measured import alike
from neurogen.cost.reading import size_of
from neurogen.data.raw import RawSplits, load_raw
from neurogen.report import study_tables
from neurogen.study.costs import KindCost, Ledger
from neurogen.study.graph import evaluations_of
from tests.conftest import FinishedRun, tiny
from tests.stages.test_relabel import RELABELLED

pytestmark = pytest.mark.xdist_group("estimates")

KINDS = [StepKind.reference, StepKind.classical, StepKind.inject, StepKind.tune, StepKind.evaluate]


def by_kind(ledger: Ledger) -> dict[StepKind, KindCost]:
    return {cost.kind: cost for cost in ledger.kinds}


def seconds(run: FinishedRun, kind: StepKind) -> float:
    return float(json.loads((run.step(kind) / "metrics.json").read_text())["seconds"])


KNOWN: dict[str, Estimate] = {}


def known(e: Experiment) -> dict[str, Estimate]:
    """Its estimate, made once for all tests."""
    if e.cost_key not in KNOWN:
        KNOWN[e.cost_key] = estimate(e)
    return {e.cost_key: KNOWN[e.cost_key]}


def of_run(run: FinishedRun, *overrides: str) -> dict[StepKind, KindCost]:
    """The ledger of the tiny experiment with these changes, under the root of a finished run."""
    e = tiny(run.folder / "runs", *overrides)
    return by_kind(ledger_of([e], known(e)))


def test_finished_steps_took_what_they_measured(tiny_run: FinishedRun) -> None:
    costs = of_run(tiny_run)
    assert list(costs) == KINDS
    for kind, cost in costs.items():
        assert (cost.num_steps, cost.num_done, cost.to_come) == (1, 1, 0)
        assert cost.took == seconds(tiny_run, kind)
        assert cost.estimated > 0


@pytest.mark.parametrize(
    ("override", "times"),
    [
        ("seed=5", dict.fromkeys(KINDS, 1.0)),
        ("zoo.training.epochs=9", {StepKind.reference: (5 + 3 * 9) / (5 + 3 * 3)}),
        ("classical.num_networks=4", {StepKind.classical: 2.0}),
        ("recipe.inject.steps=24", {StepKind.inject: 3.0, StepKind.tune: 1.0}),
        ("evaluate.num_contexts=6", {StepKind.evaluate: 3.0}),
    ],
)
def test_a_step_to_come_takes_as_long_as_finished_ones_like_it(
    tiny_run: FinishedRun, override: str, times: dict[StepKind, float]
) -> None:
    costs = of_run(tiny_run, override)
    for kind, factor in times.items():
        assert costs[kind].to_come == pytest.approx(factor * seconds(tiny_run, kind))
        assert costs[kind].num_like == 1


@pytest.mark.parametrize(
    ("override", "unlike"),
    [
        ("target=cnn", KINDS),
        ("dataset.limit=500", KINDS[:2]),
        ("backbone=tiny_qwen2_vl", KINDS[2:]),
        ("generator.context_samples=2", KINDS[2:4]),
        ("target.options.channels=[4,8]", KINDS),
        (" ".join(RELABELLED), KINDS[2:]),
        ("evaluate.recalibrate=8", KINDS[4:]),
    ],
)
def test_where_nothing_is_like_it_the_estimate_counts(
    tiny_run: FinishedRun, tmp_path: Path, override: str, unlike: list[StepKind]
) -> None:
    words = override.split()
    e = tiny(tmp_path, *words)
    costs, elsewhere = of_run(tiny_run, *words), by_kind(ledger_of([e], known(e)))
    for kind in unlike:
        assert costs[kind].num_like == 0
        assert costs[kind].to_come == elsewhere[kind].to_come > 0


def test_what_tells_units_of_work_apart() -> None:
    """Also of several tasks, of parts of a pool, and of texts."""
    task = {"dataset": {"name": "a", "parts": [{"name": "x"}], "text": {"max_tokens": 8}}, "target": {"options": {}}}
    dataset = task["dataset"]
    changes = [
        task | {"dataset": dataset | {"parts": [{"name": "x"}, {"name": "y"}]}},
        task | {"dataset": dataset | {"text": {"max_tokens": 16}}},
        task | {"dataset": dataset | {"ways": [2, 4]}},
        task | {"target": {"options": {"hidden": 8}}},
    ]
    abouts: dict[StepKind, Callable[[dict[str, Any]], dict[str, Any]]] = {
        StepKind.reference: lambda changed: {"task": changed},
        StepKind.classical: lambda changed: {"task": changed},
        StepKind.inject: lambda changed: {"zoos": [{"task": task}, {"task": changed}]},
        StepKind.tune: lambda changed: {"tasks": [task, changed]},
        StepKind.evaluate: lambda changed: {"zoo": {"task": changed}},
    }
    for kind, about in abouts.items():
        assert alike(kind, "", about(task)) == alike(kind, "", about(dict(task)))
        assert len({alike(kind, "", about(changed)) for changed in (task, *changes)}) == 5
    shots = [{"few_shot": value} for value in (None, {"shots": [1]}, {"shots": [1, 5]})]
    assert len({alike(StepKind.evaluate, "", about) for about in shots}) == 3


def test_epochs_of_a_common_generator_are_over_all_its_tasks(tmp_path: Path) -> None:
    words = ("tasks=together", "dataset.resize=16", "backbone.random_seed=0")
    epochs = ("recipe.inject.steps=null", "recipe.inject.epochs=2", "recipe.tune.steps=null", "recipe.tune.epochs=3")
    points = [tiny(tmp_path, *words, *epochs, f"target={target}") for target in ("cnn_small", "cnn")]
    (evaluation, _) = evaluations_of(points)
    assert evaluation.tune.inject is not None
    num_train = len(evaluation.task.load().train)
    inject, tune = (
        work_of(step, points[0], known(points[0])[points[0].cost_key])[0] for step in evaluation.tune.stages
    )
    assert inject == 2 * 2 * 3
    assert tune == 3 * 2 * math.ceil(num_train / 128)


def test_an_adaptation_costs_what_its_own_stage_does(tmp_path: Path) -> None:
    words = ("tasks=together", "held_out=[digits-cnn]", "recipe.adapt.contexts_per_step=8", "recipe.adapt.steps=5")
    points = [tiny(tmp_path, *words, f"target={target}") for target in ("cnn_small", "cnn")]
    _, adapted = evaluations_of(points)
    plain = tiny(tmp_path, "target=cnn")
    assert plain.cost_key != points[1].cost_key
    cost = known(points[1])[points[1].cost_key]
    assert cost.adapt is not None
    steps, seconds, _ = work_of(adapted.tune, points[1], cost)
    validating = FORWARD * cost.adapt.seconds(1) / adapted.tune.stage.validate_every
    assert (steps, seconds) == (5, pytest.approx(cost.adapt.seconds(8) + validating))
    assert cost.adapt.seconds(8) > cost.tune.seconds_per_step
    assert known(plain)[plain.cost_key].adapt is None


def test_the_estimate_counts_networks_evaluation_and_loading(tmp_path: Path) -> None:
    """At one TFLOP/s, whole use of it and no time for kernels, where the numbers can be counted by hand."""
    e = tiny(tmp_path, "dataset=mnist", "target=lenet", "backbone=llama3_8b", "zoo.init=independent")
    e = replace(e, gpu=replace(e.gpu, peak_tflops=1.0, utilisation=1.0, ms_per_layer=0.0, bandwidth_tb_per_s=1e9))
    costs = by_kind(ledger_of([e]))
    # LeNet: 416,520 multiplications forward for an image, and twice as many backward, but for the gradient of the image
    first_layer = 6 * 5 * 5 * 28 * 28
    flops = 54_000 * 2 * (3 * 416_520 - first_layer)
    assert costs[StepKind.reference].to_come == pytest.approx(3 * 3 * flops / 1e12, rel=0.01)
    assert costs[StepKind.classical].to_come == pytest.approx(2 * 3 * flops / 1e12, rel=0.01)
    loading = 2 * 7.5e9 / (LOAD_GB_PER_S * 1e9)
    validations = FORWARD * 8 / e.recipe.tune.validate_every
    tune = (costs[StepKind.tune].to_come - loading) / (8 + validations)
    evaluate = 2 * CONDITIONS * FORWARD * tune + 2 * loading
    assert costs[StepKind.evaluate].to_come == pytest.approx(evaluate, rel=0.01)


def test_steps_that_points_share_count_once(tmp_path: Path) -> None:
    points = [tiny(tmp_path), tiny(tmp_path, "recipe.tune.steps=16")]
    costs = by_kind(ledger_of(points))
    assert [costs[kind].num_steps for kind in KINDS] == [1, 1, 1, 2, 2]


def test_the_table_says_what_is_to_come_and_how_that_is_known(tiny_run: FinishedRun) -> None:
    e, other = (tiny(tiny_run.folder / "runs", *words) for words in ([], ["target=cnn"]))
    table = study_tables.costs(ledger_of([e, other], known(e) | known(other)))
    assert [cells[-1] for cells in table.rows] == ["estimate (1)"] * 5
    assert table.note.startswith("In all ")
    finished = study_tables.costs(ledger_of([e], known(e)))
    assert finished.header == ("step", "steps", "done", "took", "estimated")


@pytest.mark.parametrize("word", ["zoo.num_networks=7", "recipe.tune.optimizer=sgd", "recipe.tune.keep=best"])
def test_what_costs_differently_has_another_estimate(experiment: Callable[..., Experiment], word: str) -> None:
    assert experiment(word).cost_key != experiment().cost_key


def test_data_are_counted_once_until_they_change(
    experiment: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep asks for the size of the same data at every point and for every stage 2 that counts in epochs."""
    reads: list[str] = []

    def counted(dataset: DatasetConfig) -> RawSplits:
        reads.append(dataset.name)
        return load_raw(dataset)

    monkeypatch.setattr("neurogen.cost.reading.load_raw", counted)
    table = tmp_path / "texts.csv"
    table.write_text("text,label\n" + "".join(f"text {row},{row % 2}\n" for row in range(100)))
    words = ["dataset=text_table", f"dataset.path={table}", "dataset.text.columns=[text]", "dataset.text.label=label"]
    words.append("target=mlp")
    sizes = [size_of(experiment(*words, rate).dataset).num_train for rate in ("seed=0", "seed=1", "recipe.tune.lr=1")]
    assert len(set(sizes)) == len(reads) == 1
    with table.open("a") as file:
        file.writelines(f"text {row},{row % 2}\n" for row in range(100, 200))
    assert size_of(experiment(*words).dataset).num_train == 2 * sizes[0]
    assert len(reads) == 2
