"""Aggregation: from the metrics of evaluations to tables, reports, plots and TensorBoard's HParams.

python -m neurogen.aggregate runs/sweeps/NAME       the tables of a sweep again, by hand

One row per dataset × target × backbone × recipe × whatever else the sweep varies; evaluations of several seeds meet in
one row.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neurogen.errors import Incomplete, UserError, errors_in_one_line
from neurogen.report import plots, study_plots, tables
from neurogen.report.cells import NAMES, cells_of, row_of
from neurogen.study.graph import steps_of
from neurogen.study.pipeline import Aggregate, Evaluate, in_order
from neurogen.training.runtime import Runtime


def aggregate(step: Aggregate, runtime: Runtime) -> dict[str, Any]:
    cells = cells_of(step)
    rows = [row_of(cell, evaluations) for cell, evaluations in cells.items()]
    tables.write_study(rows, step.folder)
    write_hparams(rows, step.folder)
    study_plots.draw_all(rows, list(cells.values()), step.folder)
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
    """What a search may choose by: accuracy on validation in percent, of every evaluation that is done.

    Test accuracies are in the table, where nothing is chosen by them.
    """
    return [100 * one.metrics()["validation_accuracy"] if one.is_done else None for one in evaluations]


def write_hparams(rows: list[dict[str, Any]], folder: Path) -> None:
    """One run per row for TensorBoard's HParams page: settings beside what they gave."""
    from torch.utils.tensorboard import SummaryWriter

    for row in rows:
        measured = {name: row[name] for name in ("classical_mean", "generated_mean") if row[name] is not None}
        with SummaryWriter(str(folder)) as writer:
            named = {name: row[name] for name in NAMES}
            writer.add_hparams(named, measured, run_name=f"hparams-{tables.slug(row)}")


def main() -> None:
    """The tables of a sweep from the configs that were kept with it."""
    from omegaconf import OmegaConf

    from neurogen.experiment import experiment_from
    from neurogen.report.terminal import show
    from neurogen.training.runtime import runtime_here

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
