"""Aggregation: from the metrics of evaluations to results.csv, .json, .md and .tex, plots and TensorBoard's HParams.

python -m neurogen.aggregate runs/sweeps/NAME       the tables of a sweep again, by hand

One row per dataset × target × backbone × recipe × whatever else the sweep varies; evaluations of several seeds meet in
one row. Accuracies in percent.
"""

from __future__ import annotations

import csv
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from neurogen import plots, store
from neurogen.errors import Incomplete, UserError, errors_in_one_line
from neurogen.pipeline import Aggregate, Evaluate, Tune, in_order, steps_of
from neurogen.runtime import Runtime

NAMES = ("dataset", "target", "backbone", "recipe", "settings")
COLUMNS = [
    *NAMES,
    *"status n_ok n_expected classical_mean classical_std generated_mean generated_std zoo_mean_network".split(),
    *"random_init ratio inject_accuracy max_iou zoo_iou gpu_hours".split(),
]


def aggregate(step: Aggregate, runtime: Runtime) -> dict[str, Any]:
    rows = [row_of(cell, evaluations) for cell, evaluations in cells_of(step.evaluations).items()]
    write_tables(rows, step.folder)
    write_hparams(rows, step.folder)
    if len(rows) > 1:
        plots.save(plots.comparison(rows), step.folder / "comparison")
    missing = [evaluation for evaluation in step.evaluations if not evaluation.is_done]
    for evaluation in step.evaluations:
        if evaluation not in missing:
            plots.draw_all(evaluation, step.folder, runtime)
    if missing:
        reasons = "; ".join(f"{evaluation.label}: {why_missing(evaluation)}" for evaluation in missing)
        raise Incomplete(f"{len(missing)} of {len(step.evaluations)} evaluations are missing ({reasons})")
    return {"rows": rows}


def why_missing(evaluation: Evaluate) -> str:
    """The first steps on the way that are not done."""
    undone = [step for step in in_order(evaluation) if not step.is_done]
    first = [step for step in undone if all(needed.is_done for needed in step.needs)]
    return "not done: " + ", ".join(f"{step.kind}-{step.key}" for step in first)


def accuracies_of(evaluations: Sequence[Evaluate]) -> list[float | None]:
    """What a search may choose by: accuracy on validation after stage 2, in percent, of every evaluation that is done.

    Test accuracies are in the table, where nothing is chosen by them.
    """
    return [accuracy_on_validation(evaluation.tune) if evaluation.is_done else None for evaluation in evaluations]


def accuracy_on_validation(tune: Tune) -> float | None:
    """Of the values that stage 2 kept; None where it was not validated."""
    measured: list[float] = [
        row["validation_accuracy"] for row in tune.metrics()["history"] if "validation_accuracy" in row
    ]
    if not measured:
        return None
    return 100 * (max(measured) if tune.stage.keep == "best" else measured[-1])


WITHOUT_STAGE_1 = {"steps": 0}
Cell = tuple[str, str, str, str, str]


def cells_of(evaluations: Sequence[Evaluate]) -> dict[Cell, list[Evaluate]]:
    """By dataset, target, backbone, recipe, and what else differs between evaluations that share these."""
    named: dict[tuple[str, str, str, str], list[Evaluate]] = defaultdict(list)
    for one in evaluations:
        named[one.task.dataset.name, one.task.target.name, one.tune.backbone.name, one.recipe].append(one)
    cells: dict[Cell, list[Evaluate]] = defaultdict(list)
    for names, members in named.items():
        settings = [settings_of(member) for member in members]
        keys = dict.fromkeys(key for own in settings for key in own)
        varied = [key for key in keys if len({str(own.get(key)) for own in settings if tells(own, key)}) > 1]
        for member, own in zip(members, settings, strict=True):
            cells[*names, " ".join(f"{key}={own.get(key)}" for key in varied if tells(own, key))].append(member)
    return cells


def tells(settings: dict[str, Any], key: str) -> bool:
    """Where stage 1 is left out, only that is told of it."""
    return key in settings or not key.startswith("recipe.inject.")


def settings_of(evaluation: Evaluate) -> dict[str, Any]:
    """Everything but seeds that determines the evaluation, by the names that the command line has for it."""
    e, zoo = evaluation, evaluation.references[0]
    sections: dict[str, Any] = {
        "dataset": e.task.dataset,
        "target": e.task.target,
        "backbone": e.tune.backbone,
        "zoo.training": zoo.training,
        "classical": e.classical.classical,
        "generator": e.tune.generator,
        "recipe.inject": e.tune.inject.stage if e.tune.inject else WITHOUT_STAGE_1,
        "recipe.tune": e.tune.stage,
        "evaluate": e.evaluate,
    }
    found = {
        f"{name}.{key}": value
        for name, part in sections.items()
        for key, value in flat(part if isinstance(part, dict) else asdict(part))
    }
    num_networks = sum(reference.num_networks for reference in e.references)
    return found | {
        "zoo.num_networks": num_networks,
        "zoo.init": zoo.init,
        "zoo.shared_epochs": zoo.shared_epochs,
        "zoo.align": e.align,
    }


def flat(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{inner}", one) for inner, one in flat(value))
        else:
            yield key, value


def row_of(cell: Cell, evaluations: list[Evaluate]) -> dict[str, Any]:
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
    row: dict[str, Any] = dict(zip(NAMES, cell, strict=True))
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
    store.write_file(folder / "results.tex", lambda path: path.write_text(latex(rows)))


def latex(rows: list[dict[str, Any]]) -> str:
    """A table for a paper: a row per cell, accuracies with their deviations."""
    lines = [
        r"\begin{tabular}{lllllrr}",
        r"\hline",
        r"dataset & target & backbone & recipe & settings & classical & generated \\",
        r"\hline",
    ]
    for row in rows:
        cells = [str(row[name]).replace("_", r"\_") for name in NAMES]
        for name in ("classical", "generated"):
            mean, std = row[f"{name}_mean"], row[f"{name}_std"]
            cells.append("--" if mean is None else f"${mean:.2f}" + ("$" if std is None else rf" \pm {std:.2f}$"))
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"


def write_hparams(rows: list[dict[str, Any]], folder: Path) -> None:
    """One run per row for TensorBoard's HParams page: settings beside what they gave."""
    from torch.utils.tensorboard import SummaryWriter

    for row in rows:
        measured = {name: row[name] for name in ("classical_mean", "generated_mean") if row[name] is not None}
        with SummaryWriter(str(folder)) as writer:
            run = re.sub(r"[^\w.=-]+", "-", "-".join(row[name] for name in NAMES).rstrip("-"))
            writer.add_hparams({name: row[name] for name in NAMES}, measured, run_name=f"hparams-{run}")


def main() -> None:
    """The tables of a sweep from the configs that were kept with it."""
    from omegaconf import OmegaConf

    from neurogen.experiment import experiment_from
    from neurogen.report import show
    from neurogen.runtime import runtime_here

    with errors_in_one_line():
        if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
            raise UserError("give the folder of a sweep: python -m neurogen.aggregate runs/sweeps/NAME")
        configs = sorted((Path(sys.argv[1]) / "configs").glob("*.yaml"))
        if not configs:
            raise UserError(f"{sys.argv[1]} holds no configs/*.yaml; give the folder of a sweep, root/sweeps/NAME")
        last = steps_of([experiment_from(OmegaConf.load(path)) for path in configs])
        aggregate(last, runtime_here("cpu"))
        show(last)


if __name__ == "__main__":
    main()
