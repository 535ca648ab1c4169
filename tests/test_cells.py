"""Which evaluations meet in a row, what a row tells of its seeds, and the tables that are made of rows."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable

import pytest

from neurogen import paper
from neurogen.cells import averaged, cells_of, row_of
from neurogen.config import Experiment
from neurogen.pipeline import in_order, steps_of
from neurogen.runtime import Runtime
from neurogen.tables import COLUMNS, of_study


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


def test_a_variant_is_called_by_its_name(experiment: Callable[..., Experiment]) -> None:
    points = ("variant=full recipe.tune.lr=1e-3", "variant=clip_1 recipe.tune.lr=2e-3")
    cells = cells_of(steps_of([experiment(*point.split()) for point in points]).evaluations)
    assert [settings for *_, settings in cells] == ["both stages", "stage 2 only, α = 1"]


def test_means_of_nested_numbers() -> None:
    parts = [{"a": {"x": [1.0, 3.0], "y": 2.0}, "b": []}, {"a": {"x": [8.0], "y": 4.0}, "b": [], "c": 1.0}]
    assert averaged(parts) == {"a": {"x": 4.0, "y": 3.0}, "b": None, "c": 1.0}


def test_two_seeds_meet_in_one_row(experiment: Callable[..., Experiment], runtime: Runtime) -> None:
    """Means over all networks of all seeds, in percent; deviations over networks that have seeds of their own, or else
    over the means of the seeds."""
    experiments = [experiment(f"seed={seed}", "study=two") for seed in (0, 1)]
    last = steps_of(experiments)
    assert last.name == "two"
    for step in in_order(last):
        step.run(runtime)
    with (last.folder / "results.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert list(row) == COLUMNS
    measured = [evaluation.metrics()["populations"] for evaluation in last.evaluations]
    generated, classical = ([[100 * v for v in one[name]["accuracy"]] for one in measured] for name in POPULATIONS)
    pooled = {name: [v for own in by_seed for v in own] for name, by_seed in (("g", generated), ("c", classical))}
    assert float(row["generated_mean"]) == round(statistics.fmean(pooled["g"]), 2)
    assert float(row["generated_std"]) == round(statistics.stdev(map(statistics.fmean, generated)), 2)
    assert float(row["classical_mean"]) == round(statistics.fmean(pooled["c"]), 2)
    assert float(row["classical_std"]) == round(statistics.stdev(pooled["c"]), 2)
    ratio = float(row["generated_mean"]) / float(row["classical_mean"])
    assert float(row["ratio"]) == pytest.approx(ratio, abs=1e-4)
    assert (row["status"], row["n_ok"], row["n_expected"], row["n_seeds"]) == ("ok", "4", "4", "2")
    validation = statistics.fmean(100 * one.metrics()["validation_accuracy"] for one in last.evaluations)
    assert float(row["validation"]) == pytest.approx(validation, abs=0.006)
    spread = f"{float(row['generated_mean']):.2f} ± {float(row['generated_std']):.2f}"
    assert spread in (last.folder / "results.md").read_text()
    assert spread.replace("±", r"$\pm$") in (last.folder / "results.tex").read_text()
    report = next(last.folder.glob("report-*.md")).read_text()
    for words in ("2 seeds", f"{spread} %", "labels shuffled", "8.weight", "## Ensembles"):
        assert words in report
    for picture in ("learning", "memorisation-*", "conditioning-*"):
        assert next(last.folder.glob(f"{picture}.png")).stat().st_size > 5000


POPULATIONS = ("generated", "classical")


def test_the_paper_stands_beside_what_is_nearest_to_it(experiment: Callable[..., Experiment]) -> None:
    """Also where nothing is measured yet; other cells have no figures of the paper's."""
    points = ("dataset=mnist5k target=lenet", "dataset=digits", "dataset=rotten_tomatoes target=rnn")
    cells = cells_of(steps_of([experiment(*point.split()) for point in points]).evaluations)
    rows = [row_of(cell, evaluations) for cell, evaluations in cells.items()]
    table = of_study(rows)
    assert table.header[-3:] == ("paper: data", "paper: classical", "paper: NeuroGen")
    assert [line[-3:] for line in table.rows] == [
        ("MNIST", "99.01", "92.18"), ("", "–", "–"), ("SST-2", "77.63", "76.03"),
    ]  # fmt: skip
    assert [row["status"] for row in rows] == ["incomplete"] * 3
    assert paper.TABLE_1["cifar10", "lenet"].generated == 32.59
    assert paper.table_1("cifar10", "mlp") is None
