"""Overlap of mistakes, and the aggregation of several seeds."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable

import pytest
import torch

from neurogen.aggregate import COLUMNS, cells_of
from neurogen.config import Experiment
from neurogen.evaluate import iou
from neurogen.pipeline import Aggregate, in_order, steps_of
from neurogen.runtime import Runtime


def test_iou_of_wrong_predictions() -> None:
    a, b = torch.tensor([True, True, False, False]), torch.tensor([False, True, True, False])
    assert iou(a, b) == pytest.approx(1 / 3)
    assert iou(a, a) == 1
    nothing = torch.zeros(4, dtype=torch.bool)
    assert (iou(nothing, a), iou(nothing, nothing)) == (0, 1)


def test_what_differs_but_for_seeds_is_a_row_of_its_own(experiment: Callable[..., Experiment]) -> None:
    """Also what only some points have: stage 1 and its settings."""
    points = (
        "recipe.inject.steps=0 recipe.tune.anchor=0 generator.scale=fan_in",
        "recipe.inject.lr=1e-3 recipe.tune.anchor=0 generator.scale=fan_in",
        "recipe.inject.lr=2e-3 recipe.tune.anchor=0 generator.scale=fan_in",
        "recipe.inject.lr=2e-3 recipe.tune.anchor=0 generator.scale=fan_in zoo.shared_epochs=0",
    )
    experiments = [experiment(*point.split(), f"seed={seed}") for point in points for seed in (0, 1)]
    cells = cells_of(steps_of(experiments).evaluations)
    assert [len(members) for members in cells.values()] == [2, 2, 2, 2]
    epochs = experiments[0].zoo.shared_epochs
    assert [set(settings.split()) for *_, settings in cells] == [
        set(text.split())
        for text in (
            f"recipe.inject.steps=0 zoo.shared_epochs={epochs}",
            f"recipe.inject.steps=8 recipe.inject.lr=0.001 zoo.shared_epochs={epochs}",
            f"recipe.inject.steps=8 recipe.inject.lr=0.002 zoo.shared_epochs={epochs}",
            "recipe.inject.steps=8 recipe.inject.lr=0.002 zoo.shared_epochs=0",
        )
    ]


def test_two_seeds_meet_in_one_row(experiment: Callable[..., Experiment], runtime: Runtime) -> None:
    """Means and deviations are over all networks of all seeds, in percent."""
    evaluations = tuple(steps_of([experiment(f"seed={seed}")]).evaluations[0] for seed in (0, 1))
    last = Aggregate(evaluations[0].root, "two", evaluations)
    for step in in_order(last):
        step.run(runtime)
    with (last.folder / "results.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert list(row) == COLUMNS
    generated = [100 * value for evaluation in evaluations for value in evaluation.metrics()["generated"]]
    classical = [100 * value for evaluation in evaluations for value in evaluation.metrics()["classical"]]
    assert float(row["generated_mean"]) == round(statistics.fmean(generated), 2)
    assert float(row["generated_std"]) == round(statistics.stdev(generated), 2)
    assert float(row["ratio"]) == pytest.approx(statistics.fmean(generated) / statistics.fmean(classical), abs=1e-4)
    assert (row["status"], row["n_ok"], row["n_expected"]) == ("ok", "4", "4")
    assert (last.folder / "results.md").read_text().count("\n") == 3
