"""Of a study with very many points all are in the tables, and the first have plots."""

from __future__ import annotations

import csv
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neurogen import aggregate as module
from neurogen.config import Experiment, NamesConfig
from neurogen.report import html, study_plots
from neurogen.report.canvas import Figure, rc_context
from neurogen.report.cells import cells_of, row_of
from neurogen.report.figures import NARROW, STYLE, WIDE
from neurogen.report.study_tables import LONGEST_SETTINGS, of_study, with_short_settings
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from neurogen.study.pipeline import Aggregate
from neurogen.training.runtime import Runtime
from tests.conftest import Composed, FinishedRun
from tests.generator.test_lists import NAMED

RATES, SEEDS = (0.001, 0.002), (0, 1)


def as_if_done(last: Aggregate, tiny_run: FinishedRun) -> Aggregate:
    """The study, with the folder of the tiny run's step of its kind for every step."""
    for step in in_order(last):
        if step is not last:
            shutil.copytree(tiny_run.step(step.kind), step.folder)
    return last


def with_rate(base: Experiment, rate: float, **changes: Any) -> Experiment:
    return replace(base, recipe=replace(base.recipe, tune=replace(base.recipe.tune, lr=rate)), **changes)


@pytest.fixture
def study(experiment: Composed, tiny_run: FinishedRun) -> Aggregate:
    """Two rows of two seeds."""
    points = [with_rate(experiment(), rate, seed=seed) for rate in RATES for seed in SEEDS]
    return as_if_done(steps_of(points), tiny_run)


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


def covers_a_panel(figure: Figure) -> bool:
    """Whether a legend or a note lies on a panel."""
    figure.draw_without_rendering()
    written = [part for axes in figure.axes for part in (axes.get_legend(), *axes.texts) if part is not None]
    return any(part.get_window_extent().overlaps(axes.get_window_extent()) for part in written for axes in figure.axes)


@pytest.mark.parametrize("num_rows", [2, 9, 27])
def test_curves_of_many_rows_can_be_told_apart(
    experiment: Composed, tiny_run: FinishedRun, tmp_path: Path, num_rows: int
) -> None:
    """The best on validation, each in a colour of its own; their names stand below and cover nothing."""
    points = [with_rate(experiment(), 0.001 + number / 10000) for number in range(num_rows)]
    cells = cells_of(as_if_done(steps_of(points), tiny_run))
    long = "a word " * 8
    rows = [
        replace(row_of(cell, done), validation=50.0 + 7 * number % 27, settings=f"{long}{number}")
        for number, (cell, done) in enumerate(cells.items())
    ]
    best = sorted(rows, key=lambda row: -(row.validation or 0))[: study_plots.MOST_CURVES]
    for screen in (WIDE, NARROW):
        with warnings.catch_warnings(), rc_context(STYLE):
            warnings.simplefilter("error")
            figure = study_plots.learning(rows, list(cells.values()), screen)
            figure.savefig(tmp_path / f"{num_rows}-{screen.columns}.png", dpi=screen.dpi)
        loss_axes, accuracy_axes = figure.axes
        legend = accuracy_axes.get_legend()
        assert legend is not None
        _, *named = (text.get_text().replace("\n", " ").partition(" (n =")[0] for text in legend.get_texts())
        assert named == [row.settings for row in rows if row in best]
        assert legend.get_window_extent().width < figure.get_figwidth() / screen.columns * figure.dpi
        colours = [line.get_color() for line in accuracy_axes.lines]
        assert len(set(colours)) == len(colours) == len(best) + 1
        assert not covers_a_panel(figure)
        note = "".join(text.get_text() for text in loss_axes.texts)
        assert (f"and {num_rows - 8} more" in note) is (num_rows > 8)
        assert min(axes.get_position().height * figure.get_figheight() for axes in figure.axes) > 2


LONG = " ".join(f"recipe.tune.setting_{number}=0.00{number}" for number in range(20))


def test_long_settings_are_called_by_the_number_of_their_row(
    study: Aggregate, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every table and plot; the columns of results.csv and the table of settings have them."""
    cells = cells_of(study)
    rows = [row_of(cell, done) for cell, done in cells.items()]
    long = [replace(rows[0], settings=f"both {LONG}"), rows[1], replace(rows[0], settings=LONG)]
    assert [row.settings for row in with_short_settings(long)] == ["row 1", "recipe.tune.lr=0.002", "row 3"]
    table = of_study(long)
    assert [line[2] for line in table.rows] == ["row 1", "recipe.tune.lr=0.002", "row 3"]
    assert "in results.csv and report.html" in table.note
    assert "results.csv and report.html" not in of_study(rows).note
    assert html.labels_of(long) == ["row 1", "recipe.tune.lr=0.002", "row 3"]
    monkeypatch.setattr("neurogen.report.study_tables.LONGEST_SETTINGS", 10)
    module.aggregate(study, runtime)
    report = (study.folder / "report.html").read_text(encoding="utf-8")
    assert ">row 1</a>" in report
    assert "recipe.tune.lr" in report
    with (study.folder / "results.csv").open(encoding="utf-8") as file:
        assert [row["settings"] for row in csv.DictReader(file)] == [f"recipe.tune.lr={rate}" for rate in RATES]


@pytest.mark.parametrize("length", [20, LONGEST_SETTINGS])
def test_labels_of_rows_do_not_overlap(study: Aggregate, tmp_path: Path, length: int) -> None:
    first, second = (row_of(cell, done) for cell, done in cells_of(study).items())
    words = ("a word " * 20)[: length - 2]
    rows = [replace(first, dataset="one_dataset", settings=f"{words} x"), replace(second, settings=f"{words} y")]
    for screen in (WIDE, NARROW):
        with rc_context(STYLE):
            figure = study_plots.comparison(rows, screen)
            figure.savefig(tmp_path / f"{screen.columns}.png", dpi=screen.dpi)
            figure.set_dpi(screen.dpi)
            figure.draw_without_rendering()
        upper, lower = (text.get_window_extent() for text in figure.axes[0].get_yticklabels())
        assert not upper.overlaps(lower)
        assert figure.axes[0].get_position().width > 0.3
        assert upper.x0 >= 0


def test_names_of_classes_are_a_digest(experiment: Composed) -> None:
    """They are hundreds; beside a point without them the row would have all of them in its name."""
    named = experiment(*NAMED)
    names = named.dataset.names | {"0": NamesConfig(["nothing"], ["null"], ["zero"])}
    other = replace(named, dataset=replace(named.dataset, names=names))
    cells = cells_of(steps_of([experiment(), named, other]))
    settings = [settings for *_, settings in cells]
    assert all(len([word for word in text.split() if word.startswith("dataset.names=")]) == 1 for text in settings)
    assert len(set(settings)) == 3
    assert not any("dataset.names." in text for text in settings)
