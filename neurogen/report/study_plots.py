"""Plots over the cells of a study, as PNG and PDF.

in:  the rows of a study, and the evaluations of every row
out: in the study's folder a comparison of all cells; learning curves of those that share a classical baseline (figures
     2 and 3 of the paper); of every cell how near its networks are to the zoo, and the effect of its conditions
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from neurogen.report.formats import slug
from neurogen.report.plots import CLASSICAL, GENERATED, INJECT, ZOO, save
from neurogen.report.tables import LABELS, heading, varied_names
from neurogen.study.pipeline import Evaluate
from neurogen.study.results import Population, Row

LINES = ("#d1495b", "#30638e", "#edae49", "#3a7d44", "#7b4b94", "#00798c", "#8d5524", "#555555")
MARKS = {
    Population.CLASSICAL: (CLASSICAL, "o"),
    Population.ZOO: (ZOO, "o"),
    Population.ZOO_MEAN: (ZOO, "*"),
    Population.GAUSSIAN: ("#9db4c0", "D"),
    Population.MATCHED_NOISE: ("#00798c", "v"),
    Population.MATCHED_AVERAGE: ("#3a7d44", "s"),
    Population.MATCHED_GAUSSIAN: ("#7b4b94", "D"),
    Population.CONTEXT_ALONE: ("#8d5524", "P"),
    Population.LABELS_IGNORED: ("#555555", "X"),
    Population.LABELS_INFERRED: ("#00798c", "P"),
    Population.AFTER_INJECT: (INJECT, "^"),
    Population.GENERATED: (GENERATED, "^"),
}
COMPARED = (Population.CLASSICAL, Population.ZOO_MEAN, Population.AFTER_INJECT, Population.GENERATED)


def draw_all(rows: Sequence[Row], cells: Sequence[Sequence[Evaluate]], folder: Path) -> None:
    """Every plot for which there are finished evaluations."""
    done = [[evaluation for evaluation in cell if evaluation.is_done] for cell in cells]
    if len(rows) > 1:
        save(comparison(rows), folder / "comparison")
    if any(done):
        save(learning(rows, done), folder / "learning")
    for row, evaluations in zip(rows, done, strict=True):
        if evaluations:
            save(memorisation(row, evaluations), folder / f"memorisation-{slug(row)}")
            save(conditioning(row, evaluations), folder / f"conditioning-{slug(row)}")


def comparison(rows: Sequence[Row]) -> Figure:
    """Test accuracy of every row: classical and generated networks, and what lies between."""
    figure = Figure(figsize=(8, 1.2 + 0.45 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for shift, name in enumerate(COMPARED):
        measured = [(place, row.populations[name]) for place, row in enumerate(rows) if name in row.populations]
        axes.errorbar(
            [summary.accuracy for _, summary in measured],
            [place + 0.15 * (shift - 1.5) for place, _ in measured],
            xerr=[summary.std or 0.0 for _, summary in measured],
            fmt="o",
            markersize=5,
            color=MARKS[name][0],
            label=LABELS[name],
        )
    axes.set_yticks(range(len(rows)), [" · ".join(filter(None, names)) for names in varied_values(rows)])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set(xlabel="test accuracy (%), mean and standard deviation")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#eeeeee")
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=4)
    return figure


def varied_values(rows: Sequence[Row]) -> list[list[str]]:
    """Of every row its values of the names in which rows differ."""
    names = varied_names(rows)
    return [[getattr(row, name) for name in names] for row in rows]


@dataclass(frozen=True)
class Panel:
    """A line of learning curves: cells with the same classical networks."""

    rows: Sequence[Row]
    cells: Sequence[Sequence[Evaluate]]

    def draw(self, axes: Axes, key: str) -> None:
        """Curves of `loss` or `validation_accuracy`: of the classical networks, and of stage 2 of every cell."""
        unit = 1.0 if key == "loss" else 100.0
        networks = [curve for evaluation in self.cells[0] for curve in evaluation.classical.result().curves]
        curves = np.array([getattr(curve, key) for curve in networks]) * unit
        epochs = np.arange(1, curves.shape[1] + 1)
        _band(axes, epochs, curves, CLASSICAL, f"classical (n = {len(curves)})", "--")
        labels = varied_values(self.rows)
        for colour, names, evaluations in zip(LINES * len(self.cells), labels, self.cells, strict=False):
            runs = [stage_2(evaluation, key) for evaluation in evaluations]
            shortest = min(len(epochs) for epochs, _ in runs)
            values = np.array([values[:shortest] for _, values in runs]) * unit
            label = " · ".join(filter(None, names)) or "generated"
            _band(axes, runs[0][0][:shortest], values, colour, f"{label} (n = {len(values)})", "-")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set(xlabel="passes through the training data")

    def title(self) -> str:
        """Which task, and how much data."""
        first = self.cells[0][0]
        return f"{first.task.name}, {first.result().num_train:,} training samples"

    def note(self) -> str:
        """How the loss of the generated networks differs from that of classical training."""
        tunes = [evaluations[0].tune for evaluations in self.cells]
        anchor = max(tune.stage.anchor for tune in tunes)
        note = f"generated: + {anchor:g} × MSE of stage 1" if anchor else ""
        is_shared = any(len(tune.tasks) > 1 for tune in tunes)
        return note + "\n(of several tasks: balanced by the number of classes)" * is_shared


def learning(rows: Sequence[Row], cells: Sequence[Sequence[Evaluate]]) -> Figure:
    """Loss and accuracy on validation over passes through the training data: mean and spread over seeds."""
    panels = panels_of(rows, cells)
    figure = Figure(figsize=(10, 3.4 * len(panels)), layout="constrained")
    all_axes = figure.subplots(len(panels), 2, squeeze=False)
    for (loss_axes, accuracy_axes), panel in zip(all_axes, panels, strict=True):
        panel.draw(loss_axes, "loss")
        panel.draw(accuracy_axes, "validation_accuracy")
        loss_axes.text(1, 1, panel.note(), fontsize=8, ha="right", va="top", transform=loss_axes.transAxes)
        loss_axes.set(ylabel="cross-entropy in training", yscale="log", title=panel.title())
        accuracy_axes.set(ylabel="accuracy on validation (%)", title="accuracy")
        accuracy_axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def panels_of(rows: Sequence[Row], cells: Sequence[Sequence[Evaluate]]) -> list[Panel]:
    """Cells without evaluations are left out."""
    members: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, evaluations in enumerate(cells):
        if evaluations:
            members[tuple(evaluation.classical.key for evaluation in evaluations)].append(index)
    return [Panel([rows[i] for i in index], [cells[i] for i in index]) for index in members.values()]


def stage_2(evaluation: Evaluate, key: str) -> tuple[NDArray[Any], list[float]]:
    """(passes through the data, values) of the steps at which it was measured."""
    tune = evaluation.tune
    measured = [(row.step, getattr(row, key)) for row in evaluation.history(tune) if getattr(row, key) is not None]
    num_train = evaluation.result().num_train
    samples = tune.stage.contexts_per_step * min(tune.stage.batch_size, num_train)
    passes = samples / num_train / len(tune.tasks)
    return np.array([step * passes for step, _ in measured]), [value for _, value in measured]


def _band(axes: Axes, x: NDArray[Any], runs: NDArray[Any], colour: str, label: str, style: str) -> None:
    """Mean of the runs [runs, points] and, where there are several, one standard deviation around it, but no lower than
    the lowest run."""
    middle = runs.mean(0)
    axes.plot(x, middle, style, color=colour, label=label)
    if len(runs) > 1:
        spread = runs.std(0, ddof=1)
        lower = np.maximum(middle - spread, runs.min(0))  # on a logarithmic axis nothing may reach 0
        axes.fill_between(x, lower, middle + spread, color=colour, alpha=0.18, linewidth=0)


def memorisation(row: Row, evaluations: Sequence[Evaluate]) -> Figure:
    """Every network: accuracy against the overlap of its mistakes with the zoo's, and against its distance to it."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    iou_axes, distance_axes = figure.subplots(1, 2)
    results = [evaluation.result().populations for evaluation in evaluations]
    for name, (colour, mark) in MARKS.items():
        populations = [result[name] for result in results if name in result]
        accuracies = [100 * accuracy for population in populations for accuracy in population.accuracy]
        for axes, key in ((iou_axes, "max_iou"), (distance_axes, "min_l2")):
            values = [value for population in populations for value in getattr(population, key)]
            if values:
                style: dict[str, Any] = {"color": colour, "marker": mark, "s": 60 if mark == "*" else 22}
                axes.scatter(accuracies, values, alpha=0.7, linewidths=0, label=LABELS[name], **style)
    iou_axes.set(ylabel="overlap of mistakes with the zoo (IoU)")
    distance_axes.set(ylabel="distance to the zoo (L2)", ylim=(0, None))
    for axes in (iou_axes, distance_axes):
        axes.set(xlabel="test accuracy (%)")
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(heading(row), fontsize=10)
    handles, labels = iou_axes.get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside right center")
    return figure


def conditioning(row: Row, evaluations: Sequence[Evaluate]) -> Figure:
    """Under every condition, each context's accuracy and how far the parameters moved."""
    names = list(row.conditions)
    conditions = [evaluation.result().conditions for evaluation in evaluations]
    figure = Figure(figsize=(10, 0.8 + 0.36 * len(names)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    labels = ("test accuracy (%)", "change of the parameters (std)")
    for axes, key, unit, label in zip(panels, ("accuracy", "change"), (100, 1), labels, strict=True):
        for place, name in enumerate(names):
            values = [unit * value for by_name in conditions for value in getattr(by_name[name], key)]
            axes.barh(place, statistics.fmean(values), color=GENERATED, alpha=0.35)
            axes.scatter(values, [place] * len(values), color=GENERATED, s=12, alpha=0.7, linewidths=0)
        axes.set(xlabel=label, xlim=(0, None))
        axes.locator_params(axis="x", nbins=6)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    figure.suptitle(heading(row), fontsize=10)
    return figure
