"""Of a study with very many points all are in the tables, and the first have plots."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from neurogen import aggregate as module
from neurogen.report import study_plots
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from neurogen.study.pipeline import Aggregate
from neurogen.training.runtime import Runtime
from tests.conftest import Composed, FinishedRun

RATES, SEEDS = (0.001, 0.002), (0, 1)


@pytest.fixture
def study(experiment: Composed, tiny_run: FinishedRun) -> Aggregate:
    """Two rows of two seeds. Every step has the folder of the tiny run's step of its kind."""
    base = experiment()
    last = steps_of(
        [
            replace(base, seed=seed, recipe=replace(base.recipe, tune=replace(base.recipe.tune, lr=rate)))
            for rate in RATES
            for seed in SEEDS
        ]
    )
    for step in in_order(last):
        if step is not last:
            shutil.copytree(tiny_run.step(step.kind), step.folder)
    return last


def seeds_with(pattern: str, folder: Path) -> list[str]:
    return sorted(path.name.split("-seed")[1][0] for path in folder.glob(pattern))


def test_the_first_points_have_plots(study: Aggregate, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_plots, "MOST_POINTS", 1)
    monkeypatch.setattr(study_plots, "MOST_ROWS", 1)
    module.aggregate(study, runtime)
    with (study.folder / "results.csv").open(encoding="utf-8") as file:
        assert [row["settings"] for row in csv.DictReader(file)] == [f"recipe.tune.lr={rate}" for rate in RATES]
    assert seeds_with("curves-*.png", study.folder) == ["0"]
    assert len(list(study.folder.glob("conditioning-*.png"))) == 1
    report = (study.folder / "report.html").read_text(encoding="utf-8")
    assert report.count("<details") == len(RATES)
    assert "drawn of the first 1 alone" in report
