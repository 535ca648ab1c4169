"""Plots over the cells of a study, as PNG and PDF.

in:  the rows of a study, and the evaluations of every row
out: in the study's folder a comparison of all cells; learning curves of those that share a classical baseline (figures
     2 and 3 of the paper); of every cell how near its networks are to the zoo, and the effect of its conditions
"""

from __future__ import annotations

import math
import statistics
import textwrap
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurogen.progress import when_slow
from neurogen.report.canvas import Axes, Figure
from neurogen.report.figures import (
    CLASSICAL,
    FONT_SIZE,
    GENERATED,
    INJECT,
    ZOO,
    Picture,
    Screen,
    StudyPictures,
    log_scale,
    panels,
    picture_of,
)
from neurogen.report.formats import slug
from neurogen.report.study_tables import labels_of, with_short_settings
from neurogen.report.tables import LABELS, heading
from neurogen.study.pipeline import Evaluate
from neurogen.study.results import Population, measured
from neurogen.study.rows import Row

LINES = ("#d1495b", "#30638e", "#c98a1b", "#3a7d44", "#7b4b94", "#00798c", "#8d5524", "#555555")
MARKS = {
    Population.CLASSICAL: (CLASSICAL, "o"),
    Population.ZOO: (ZOO, "o"),
    Population.ZOO_MEAN: (ZOO, "*"),
    Population.ZOO_MEAN_RECALIBRATED: (ZOO, "P"),
    Population.GAUSSIAN: ("#9db4c0", "D"),
    Population.MATCHED_NOISE: ("#00798c", "v"),
    Population.MATCHED_AVERAGE: ("#3a7d44", "s"),
    Population.MATCHED_GAUSSIAN: ("#7b4b94", "D"),
    Population.CONTEXT_ALONE: ("#8d5524", "P"),
    Population.LABELS_IGNORED: ("#555555", "X"),
    Population.LABELS_INFERRED: ("#00798c", "P"),
    Population.NEAREST_EMBEDDING: ("#9db4c0", "D"),
    Population.NEAREST_STATE: ("#00798c", "v"),
    Population.NEAREST_SENTENCE: ("#8d5524", "P"),
    Population.ASKED: ("#3a7d44", "s"),
    Population.AFTER_INJECT: (INJECT, "^"),
    Population.AFTER_INJECT_RECALIBRATED: (INJECT, "P"),
    Population.NEW_NAMES: (GENERATED, "v"),
    Population.GENERATED_RECALIBRATED: (GENERATED, "P"),
    Population.GENERATED: (GENERATED, "^"),
}
# What is drawn of very large studies: a picture of thousands of rows is too large for the eye, and each takes seconds.
MOST_ROWS, MOST_POINTS, MOST_GROUPS, MOST_CURVES = 100, 100, 20, len(LINES)
LINE, LETTERS = 0.17, 45  # inches that a line of text takes; letters of a line that a panel is wide
BELOW = 32  # points below an axis, where its numbers and its label end
COMPARED = (Population.CLASSICAL, Population.ZOO_MEAN, Population.AFTER_INJECT, Population.GENERATED)


def draw_all(rows: Sequence[Row], cells: Sequence[Sequence[Evaluate]], folder: Path) -> StudyPictures:
    """Draw every plot for which there are finished evaluations; of very many rows the first."""
    num_rows, rows = len(rows), rows[:MOST_ROWS]
    shown = with_short_settings(rows)
    done = [[evaluation for evaluation in cell if evaluation.is_done] for cell in cells[:MOST_ROWS]]
    plots: dict[str, Callable[[Screen], Figure]] = {}
    if len(rows) > 1 and any(done):
        plots["comparison"] = partial(comparison, shown)
    if any(done):
        plots["learning"] = partial(learning, shown, done)
    of_study = {name: picture_of(draw, folder / name)[0] for name, draw in plots.items()}
    of_rows: list[dict[str, Picture]] = []
    for row, short, evaluations in when_slow(list(zip(rows, shown, done, strict=True)), "drawn", "rows"):
        of_rows.append({})
        compares = any(summary.min_l2 is not None for summary in row.populations.values())
        kinds = {"memorisation": memorisation} if compares else {}
        for name, draw in (kinds | {"conditioning": conditioning}).items() if evaluations else ():
            path = folder / f"{name}-{slug(row)}"
            of_rows[-1][name], _ = picture_of(partial(draw, short, evaluations), path)
    return StudyPictures(of_study, of_rows + [{} for _ in range(num_rows - len(rows))])


def drawn(cells: Sequence[Sequence[Evaluate]]) -> list[list[Evaluate]]:
    """Of every cell the finished evaluations that have plots of their own: all of them, or of very many the first seeds
    of the first cells."""
    done = [[evaluation for evaluation in cell if evaluation.is_done] for cell in cells]
    places = [(seed, cell) for cell, evaluations in enumerate(done[:MOST_ROWS]) for seed in range(len(evaluations))]
    chosen = set(sorted(places)[:MOST_POINTS])
    return [
        [evaluation for seed, evaluation in enumerate(evaluations) if (seed, cell) in chosen]
        for cell, evaluations in enumerate(done)
    ]


def comparison(rows: Sequence[Row], screen: Screen) -> Figure:
    """Test accuracy of every row: classical and generated networks, and what lies between."""
    labels = [screen.wrapped(label) for label in labels_of(rows)]
    most_lines = 1 + max(label.count("\n") for label in labels)
    height = max(0.45, LINE * (most_lines + 0.5))
    figure = Figure(figsize=(screen.width, 1.2 + height * len(rows)), layout="constrained")
    axes = figure.subplots()
    for shift, name in enumerate(COMPARED):
        places = [(place, row.populations[name]) for place, row in enumerate(rows) if name in row.populations]
        axes.errorbar(
            [summary.accuracy for _, summary in places],
            [place + 0.15 * (shift - 1.5) for place, _ in places],
            xerr=[summary.std or 0.0 for _, summary in places],
            fmt="o",
            markersize=5,
            color=MARKS[name][0],
            label=LABELS[name],
        )
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set(xlabel="test accuracy (%), mean and deviation")
    axes.grid(axis="x", color="#eeeeee")
    figure.legend(loc="outside upper center", ncols=2 * screen.columns)
    return figure


@dataclass(frozen=True)
class Group:
    """Cells with the same classical networks and the same classes, whose learning curves share their axes."""

    rows: Sequence[Row]
    cells: Sequence[Sequence[Evaluate]]

    @cached_property
    def drawn(self) -> list[int]:
        """The places of at most MOST_CURVES cells, the best on validation, in their order."""
        best = sorted(range(len(self.rows)), key=lambda place: -(self.rows[place].validation or 0.0))
        return sorted(best[:MOST_CURVES])

    @cached_property
    def labels(self) -> list[str]:
        """What the legend says of every drawn cell, in the width of a panel."""
        labels = labels_of(self.rows)
        names = [f"{labels[place] or 'generated'} (n = {len(self.cells[place])})" for place in self.drawn]
        return [textwrap.fill(name, LETTERS) for name in names]

    def draw(self, axes: Axes, key: str) -> None:
        """Curves of `loss` or `validation_accuracy`: of the classical networks where they have the same classes, and of
        stage 2 of every cell."""
        unit = 1.0 if key == "loss" else 100.0
        if self.has_classical:
            networks = [curve for evaluation in self.cells[0] for curve in evaluation.classical.result().curves]
            curves = np.array([getattr(curve, key) for curve in networks]) * unit
            epochs = np.arange(1, curves.shape[1] + 1)
            _band(axes, epochs, curves, CLASSICAL, f"classical (n = {len(curves)})", "--")
        for colour, place, label in zip(LINES, self.drawn, self.labels, strict=False):
            runs = [stage_2(evaluation, key) for evaluation in self.cells[place]]
            shortest = min(len(epochs) for epochs, _ in runs)
            values = np.array([values[:shortest] for _, values in runs]) * unit
            _band(axes, runs[0][0][:shortest], values, colour, label, "-")
        axes.set(xlabel="passes through the training data")

    @property
    def has_classical(self) -> bool:
        """Whether the classical networks tell the same classes apart as the generated ones do."""
        return self.cells[0][0].learns_all_classes

    def title(self) -> str:
        """Which task, and how much data."""
        first = self.cells[0][0]
        return f"{first.task.name}, {first.result().num_train:,} training samples"

    def note(self) -> str:
        """How the loss of the generated networks differs from that of classical training; what is left out."""
        tunes = [evaluations[0].tune for evaluations in self.cells]
        anchor = max(tune.stage.anchor for tune in tunes)
        num_more = len(self.rows) - len(self.drawn)
        lines = {
            f"generated: + {anchor:g} × MSE of stage 1": bool(anchor),
            "(of several tasks: balanced by the number of classes)": any(len(tune.tasks) > 1 for tune in tunes),
            "(no classical curve: it is of all classes)": not self.has_classical,
            f"and {num_more} more, less accurate on validation": num_more > 0,
        }
        return "\n".join(line for line, applies in lines.items() if applies)


def learning(rows: Sequence[Row], cells: Sequence[Sequence[Evaluate]], screen: Screen) -> Figure:
    """Loss and accuracy on validation over passes through the training data: mean and spread over seeds."""
    groups = groups_of(rows, cells)[:MOST_GROUPS]
    lines = 2 + max("\n".join(group.labels).count("\n") for group in groups)  # of a legend, below the panel
    figure, axes = panels(screen, 2 * len(groups), height=3.1 + LINE * lines)
    for loss_axes, accuracy_axes, group in zip(axes[::2], axes[1::2], groups, strict=True):
        group.draw(loss_axes, "loss")
        group.draw(accuracy_axes, "validation_accuracy")
        loss_axes.annotate(group.note(), (0, 0), (0, -BELOW), "axes fraction", "offset points", va="top")
        loss_axes.set(ylabel="cross-entropy in training")
        log_scale(loss_axes)
        loss_axes.set_title(group.title())
        accuracy_axes.set(ylabel="accuracy on validation (%)")
        accuracy_axes.set_title("accuracy")
        accuracy_axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=BELOW / FONT_SIZE)
    return figure


def groups_of(rows: Sequence[Row], cells: Sequence[Sequence[Evaluate]]) -> list[Group]:
    """Cells without evaluations are left out."""
    members: dict[tuple[bool, *tuple[str, ...]], list[int]] = defaultdict(list)
    for index, evaluations in enumerate(cells):
        if evaluations:
            baseline = (evaluation.classical.key for evaluation in evaluations)
            members[evaluations[0].learns_all_classes, *baseline].append(index)
    return [Group([rows[i] for i in index], [cells[i] for i in index]) for index in members.values()]


def stage_2(evaluation: Evaluate, key: str) -> tuple[NDArray[Any], list[float]]:
    """(passes through the data, values) of the steps at which it was measured."""
    tune = evaluation.tune
    series = measured(evaluation.history(tune), key)
    num_train = evaluation.result().num_train
    samples = tune.stage.contexts_per_step * min(tune.stage.batch_size, num_train)
    passes = samples / num_train / len(tune.tasks)
    return np.array([step * passes for step, _ in series]), [value for _, value in series]


def _band(axes: Axes, x: NDArray[Any], runs: NDArray[Any], colour: str, label: str, style: str) -> None:
    """Mean of the runs [runs, points] and, where there are several, one standard deviation around it, but no lower than
    the lowest run."""
    middle = runs.mean(0)
    axes.plot(x, middle, style, color=colour, label=label)
    if len(runs) > 1:
        spread = runs.std(0, ddof=1)
        lower = np.maximum(middle - spread, runs.min(0))  # on a logarithmic axis nothing may reach 0
        axes.fill_between(x, lower, middle + spread, color=colour, alpha=0.18, linewidth=0)


def memorisation(row: Row, evaluations: Sequence[Evaluate], screen: Screen) -> Figure:
    """Every network: accuracy against the overlap of its mistakes with the zoo's, and against its distance to it."""
    figure, (iou_axes, distance_axes) = panels(screen, 2, height=4 if not screen.is_narrow else 3.2)
    results = [evaluation.result().populations for evaluation in evaluations]
    for name, (colour, mark) in MARKS.items():
        populations = [result[name] for result in results if name in result]
        accuracies = [100 * accuracy for population in populations for accuracy in population.accuracy]
        for axes, key in ((iou_axes, "max_iou"), (distance_axes, "min_l2")):
            measures = [value for population in populations for value in getattr(population, key)]
            values = [math.nan if value is None else value for value in measures]
            if values:
                style: dict[str, Any] = {"color": colour, "marker": mark, "s": 60 if mark == "*" else 22}
                axes.scatter(accuracies, values, alpha=0.7, linewidths=0, label=LABELS[name], **style)
    iou_axes.set(ylabel="overlap of mistakes with the zoo (IoU)")
    distance_axes.set(ylabel="distance to the zoo (L2)", ylim=(0, None))
    for axes in (iou_axes, distance_axes):
        axes.set(xlabel="test accuracy (%)")
    handles, labels = distance_axes.get_legend_handles_labels()
    place = "outside lower center" if screen.is_narrow else "outside right center"
    figure.legend(handles, labels, loc=place)
    if not screen.is_narrow:
        figure.suptitle(heading(row))
    return figure


def conditioning(row: Row, evaluations: Sequence[Evaluate], screen: Screen) -> Figure:
    """Under every condition, each context's accuracy and how far the parameters moved."""
    names = list(row.conditions)
    conditions = [evaluation.result().conditions for evaluation in evaluations]
    figure, both_axes = panels(screen, 2, height=0.8 + 0.36 * len(names), sharey=True)
    labels = ("test accuracy (%)", "change of the parameters (std)")
    for axes, key, unit, label in zip(both_axes, ("accuracy", "change"), (100, 1), labels, strict=True):
        for place, name in enumerate(names):
            values = [unit * value for by_name in conditions for value in getattr(by_name[name], key)]
            axes.barh(place, statistics.fmean(values), color=GENERATED, alpha=0.35)
            axes.scatter(values, [place] * len(values), color=GENERATED, s=12, alpha=0.7, linewidths=0)
        axes.set(xlabel=label, xlim=(0, None))
        axes.locator_params(axis="x", nbins=6)
    both_axes[0].set_yticks(range(len(names)), [screen.wrapped(name) for name in names])
    both_axes[0].invert_yaxis()
    if not screen.is_narrow:
        figure.suptitle(heading(row))
    return figure
