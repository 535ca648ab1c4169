"""Aggregation: from the metrics of evaluations to results.csv, results.json, results.md and plots.

One row per dataset × target × backbone × recipe; evaluations of several seeds meet in one row. Accuracies in percent.
"""

from __future__ import annotations

import csv
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from neurogen import plots, store
from neurogen.pipeline import Aggregate, Evaluate, in_order
from neurogen.runtime import Runtime

COLUMNS = (
    "dataset target backbone recipe status n_ok n_expected classical_mean classical_std generated_mean generated_std "
    "zoo_mean_network random_init ratio inject_accuracy max_iou zoo_iou gpu_hours"
).split()


def aggregate(step: Aggregate, runtime: Runtime) -> dict[str, Any]:
    cells: dict[tuple[str, ...], list[Evaluate]] = defaultdict(list)
    for evaluation in step.evaluations:
        cells[cell_of(evaluation)].append(evaluation)
    rows = [row_of(cell, evaluations) for cell, evaluations in cells.items()]
    write_tables(rows, step.folder)
    for evaluation in step.evaluations:
        plots.draw_all(evaluation, step.folder, runtime)
    return {"rows": rows}


def cell_of(evaluation: Evaluate) -> tuple[str, ...]:
    task = evaluation.task
    return task.dataset.name, task.target.name, evaluation.tune.backbone.name, evaluation.recipe


def row_of(cell: tuple[str, ...], evaluations: list[Evaluate]) -> dict[str, Any]:
    """The means and deviations over all networks of all seeds of one cell."""
    done = [evaluation.metrics() for evaluation in evaluations if evaluation.is_done]

    def percent(name: str) -> list[float]:
        return [100 * value for metrics in done for value in metrics[name]]

    def mean(values: list[float]) -> float | None:
        return round(statistics.fmean(values), 2) if values else None

    def std(values: list[float]) -> float | None:
        return round(statistics.stdev(values), 2) if len(values) > 1 else None

    classical, generated = percent("classical"), percent("generated")
    steps = {step.folder: step for evaluation in evaluations for step in in_order(evaluation) if step.is_done}
    row: dict[str, Any] = dict(zip(("dataset", "target", "backbone", "recipe"), cell, strict=True))
    row |= {
        "status": "ok" if len(done) == len(evaluations) else "incomplete",
        "n_ok": len(generated),
        "n_expected": sum(evaluation.evaluate.num_contexts for evaluation in evaluations),
        "classical_mean": mean(classical),
        "classical_std": std(classical),
        "generated_mean": mean(generated),
        "generated_std": std(generated),
        "zoo_mean_network": mean(percent("zoo_mean_network")),
        "random_init": mean(percent("random_init")),
        "ratio": round(statistics.fmean(generated) / statistics.fmean(classical), 4) if done else None,
        "inject_accuracy": mean(percent("after_inject")),
        "gpu_hours": round(sum(step.metrics()["gpu_hours"] for step in steps.values()), 3),
    }
    for name in ("max_iou", "zoo_iou"):
        found = [metrics[name] for metrics in done if metrics[name] is not None]
        row[name] = round(statistics.fmean(found), 3) if found else None
    about = {
        "n_seeds": len(done),
        "n_classical": len(classical),
        "num_test": done[0]["num_test"] if done else None,
        "zoo": mean(percent("zoo")),
        "zoo_std": std(percent("zoo")),
        "n_zoo": len(percent("zoo")),
        "gaussian_of_zoo": mean(percent("gaussian_of_zoo")),
        "seconds": round(sum(step.metrics()["seconds"] for step in steps.values()), 1),
    }
    return row | about


def write_tables(rows: list[dict[str, Any]], folder: Path) -> None:
    store.write_json(folder / "results.json", rows)

    def write_csv(path: Path) -> None:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)

    store.write_file(folder / "results.csv", write_csv)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    for row in rows:
        lines.append("| " + " | ".join("" if row[name] is None else str(row[name]) for name in COLUMNS) + " |")
    store.write_file(folder / "results.md", lambda path: path.write_text("\n".join(lines) + "\n"))
