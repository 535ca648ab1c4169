"""Plots over the cells of a study, as PNG and PDF: all cells beside each other, learning curves of those that share an
opponent (figures 2 and 3 of the paper), and of every cell what it memorises and what it makes of its condition.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from neurogen.report.cells import NAMES
from neurogen.report.plots import CLASSICAL, GENERATED, INJECT, ZOO, save
from neurogen.report.tables import POPULATIONS, heading, slug
from neurogen.study.pipeline import Evaluate

Row = dict[str, Any]
LINES = ("#d1495b", "#30638e", "#edae49", "#3a7d44", "#7b4b94", "#00798c", "#8d5524", "#555555")
MARKS = {
    "classical": (CLASSICAL, "o"),
    "zoo": (ZOO, "o"),
    "zoo_mean_network": (ZOO, "*"),
    "gaussian_of_zoo": ("#9db4c0", "D"),
    "noisy_zoo": ("#00798c", "v"),
    "averaged_zoo": ("#3a7d44", "s"),
    "drawn_zoo": ("#7b4b94", "D"),
    "context_alone": ("#8d5524", "P"),
    "blind_to_order": ("#555555", "X"),
    "matched_zoo": ("#00798c", "P"),
    "after_inject": (INJECT, "^"),
    "generated": (GENERATED, "^"),
}


def draw_all(rows: Sequence[Row], cells: Sequence[Sequence[Evaluate]], folder: Path) -> None:
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
    """Test accuracy of every row of a sweep's table: classical and generated networks, and what lies between."""
    figure = Figure(figsize=(8, 1.2 + 0.45 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for shift, name in enumerate(("classical", "zoo_mean_network", "after_inject", "generated")):
        colour, _ = MARKS[name]
        found = [(place, row["populations"][name]) for place, row in enumerate(rows) if name in row["populations"]]
        axes.errorbar(
            [part["accuracy"] for _, part in found],
            [place + 0.15 * (shift - 1.5) for place, _ in found],
            xerr=[part["std"] or 0.0 for _, part in found],
            fmt="o",
            markersize=5,
            color=colour,
            label=POPULATIONS[name],
        )
    axes.set_yticks(range(len(rows)), [" · ".join(filter(None, told)) for told in telling(rows)])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set(xlabel="test accuracy (%), mean and standard deviation")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#eeeeee")
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=4)
    return figure


def telling(rows: Sequence[Row]) -> list[list[str]]:
    """Of every row the names in which rows differ."""
    varied = [name for name in NAMES if len({row[name] for row in rows}) > 1]
    return [[row[name] for name in varied] for row in rows]


def learning(rows: Sequence[Row], cells: Sequence[Sequence[Evaluate]]) -> Figure:
    """Loss and accuracy on validation over passes through the training data: stage 2 of every cell, mean and spread
    over seeds, beside the classical networks. Cells with the same opponents share a row of panels."""
    panels: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, evaluations in enumerate(cells):
        if evaluations:
            panels[tuple(evaluation.classical.key for evaluation in evaluations)].append(number)
    figure = Figure(figsize=(10, 3.4 * len(panels)), layout="constrained")
    all_axes = figure.subplots(len(panels), 2, squeeze=False)
    for (loss_axes, accuracy_axes), members in zip(all_axes, panels.values(), strict=True):
        first = cells[members[0]][0]
        networks = [curve for one in cells[members[0]] for curve in one.classical.metrics()["curves"]]
        labels = telling([rows[number] for number in members])
        for key, axes in (("loss", loss_axes), ("validation_accuracy", accuracy_axes)):
            unit = 1.0 if key == "loss" else 100.0
            curves = np.array([curve[key] for curve in networks]) * unit
            _band(axes, np.arange(1, curves.shape[1] + 1), curves, CLASSICAL, f"classical (n = {len(curves)})", "--")
            for colour, label, number in zip(LINES * len(members), labels, members, strict=False):
                runs = [stage_2(evaluation, key) for evaluation in cells[number]]
                shortest = min(len(epochs) for epochs, _ in runs)
                own = np.array([values[:shortest] for _, values in runs]) * unit
                told = " · ".join(filter(None, label)) or "generated"
                _band(axes, runs[0][0][:shortest], own, colour, f"{told} (n = {len(own)})", "-")
            axes.spines[["top", "right"]].set_visible(False)
            axes.set(xlabel="passes through the training data")
        anchors = {cells[number][0].tune.stage.anchor for number in members}
        size = f"{first.metrics()['num_train']:,} training samples"
        told = f"generated: + {max(anchors):g} × MSE of stage 1" if any(anchors) else ""
        several = any(len(cells[number][0].tune.tasks) > 1 for number in members)
        told += "\n(of several tasks: balanced by the number of classes)" * several
        loss_axes.text(1, 1, told, fontsize=8, ha="right", va="top", transform=loss_axes.transAxes)
        loss_axes.set(ylabel="cross-entropy in training", yscale="log", title=f"{first.task.name}, {size}")
        accuracy_axes.set(ylabel="accuracy on validation (%)", title="accuracy")
        accuracy_axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def stage_2(evaluation: Evaluate, key: str) -> tuple[NDArray[Any], list[float]]:
    """(passes through the data, values) of the steps at which it was measured."""
    tune = evaluation.tune
    found = [row for row in evaluation.history(tune) if key in row]
    num_train = evaluation.metrics()["num_train"]
    each = tune.stage.contexts_per_step * min(tune.stage.batch_size, num_train) / num_train / len(tune.tasks)
    return np.array([row["step"] * each for row in found]), [row[key] for row in found]


def _band(axes: Any, x: Any, runs: NDArray[Any], colour: str, label: str, style: str) -> None:
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
    for name, (colour, mark) in MARKS.items():
        parts = [evaluation.metrics()["populations"].get(name) for evaluation in evaluations]
        accuracies = [100 * value for part in parts if part for value in part["accuracy"]]
        for axes, key in ((iou_axes, "max_iou"), (distance_axes, "min_l2")):
            values = [value for part in parts if part for value in part[key]]
            if values:
                style: dict[str, Any] = {"color": colour, "marker": mark, "s": 60 if mark == "*" else 22}
                axes.scatter(accuracies, values, alpha=0.7, linewidths=0, label=POPULATIONS[name], **style)
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
    names = list(row["conditions"])
    figure = Figure(figsize=(10, 0.8 + 0.36 * len(names)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, key, unit, label in zip(
        panels, ("accuracy", "change"), (100, 1), ("test accuracy (%)", "change of the parameters (std)"), strict=True
    ):
        for place, name in enumerate(names):
            values = [unit * v for evaluation in evaluations for v in evaluation.metrics()["conditions"][name][key]]
            axes.barh(place, statistics.fmean(values), color=GENERATED, alpha=0.35)
            axes.scatter(values, [place] * len(values), color=GENERATED, s=12, alpha=0.7, linewidths=0)
        axes.set(xlabel=label, xlim=(0, None))
        axes.locator_params(axis="x", nbins=6)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    figure.suptitle(heading(row), fontsize=10)
    return figure
