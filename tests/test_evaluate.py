"""Overlap of mistakes, and the aggregation of several seeds."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable

import pytest
import torch

from neurogen.aggregate import COLUMNS
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
