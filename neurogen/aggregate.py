"""Aggregation: from finished evaluations to tables, reports, plots and TensorBoard's HParams.

python -m neurogen.aggregate runs/sweeps/NAME       make the tables of a sweep again

in:  the evaluations of a study, some of which may be missing
out: in the study's folder one row per dataset × target × backbone × recipe × whatever else the study varies;
     evaluations that differ in their seed alone share a row
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurogen.errors import Incomplete, UserError, advising, errors_in_one_line, one_line
from neurogen.parser import Parser
from neurogen.progress import when_slow
from neurogen.store import Unwritable, is_done, mark_done, write_json
from neurogen.streams import make_lasting
from neurogen.study import costs
from neurogen.study.execution import in_order
from neurogen.study.pipeline import Aggregate, Evaluate
from neurogen.study.results import to_json
from neurogen.study.rows import RESULTS_FILE
from neurogen.study.step import name_of

if TYPE_CHECKING:
    from neurogen.config import Experiment
    from neurogen.study.costs import Ledger
    from neurogen.study.rows import Row
    from neurogen.training.runtime import Runtime

REFERENCE = re.compile(r"(?<!\\)(?:\\\\)*\$\{")  # a sweep writes values alone; in a text it escapes the sign


def aggregate(step: Aggregate, runtime: Runtime) -> dict[str, Any]:
    """Write tables and plots of what there is; the rows are the metrics.

    Raises Incomplete, after writing, where evaluations are missing.
    """
    from neurogen.report import formats, html, plots, study_plots
    from neurogen.report.cells import cells_of, row_of

    cells = cells_of(step)
    rows = [row_of(cell, evaluations) for cell, evaluations in cells.items()]
    formats.write_study(rows, step.folder)
    write_hparams(rows, step.folder)
    pictures = study_plots.draw_all(rows, list(cells.values()), step.folder)
    drawn = zip(pictures.of_rows, study_plots.drawn(list(cells.values())), strict=True)
    with_row = [(of_row, evaluation) for of_row, evaluations in drawn for evaluation in reversed(evaluations)]
    for of_row, evaluation in when_slow(with_row, "drawn", "evaluations"):
        of_row.update(plots.draw_all(evaluation, step.folder, runtime))  # the report shows the first seed
    ledger = write_costs(step)
    missing = [why_missing(evaluation) for evaluation in step.evaluations if not evaluation.is_done]
    html.write_report(step, rows, list(cells.values()), pictures, missing, ledger)
    if missing:
        raise Incomplete(f"{len(missing)} of {len(step.evaluations)} evaluations are missing ({'; '.join(missing)})")
    return {"rows": to_json(rows)}


def write_costs(step: Aggregate) -> Ledger | None:
    """What the steps of a sweep took beside the estimate, into costs.json.

    None where the folder keeps no configs, others than those of this sweep, or nothing can be estimated since data
    cannot be read: that is said, and the table is made all the same. In a root that accounts share, others may have
    replaced the configs; an estimate calls the functions that they name.
    """
    from neurogen.cost.ledger import ledger_of
    from neurogen.study.graph import evaluations_of

    try:
        experiments = experiments_in(step.folder)
        if not experiments:
            return None
        evaluations = evaluations_of(experiments)
        if {name_of(e) for e in evaluations} != {name_of(e) for e in step.evaluations}:
            raise UserError(f"{step.folder}/configs are not those of this sweep; run it again")
        ledger = ledger_of(experiments, evaluations=evaluations)
    except UserError as error:
        print(f"  times are not compared with an estimate: {error}", flush=True)
        return None
    write_json(step.folder / costs.FILE, to_json(ledger))
    return ledger


def why_missing(evaluation: Evaluate) -> str:
    """The evaluation, and the first steps on its way that are not done."""
    undone = [step for step in in_order(evaluation) if not step.is_done]
    first = [step for step in undone if all(needed.is_done for needed in step.needs)]
    return f"{evaluation.label}: not done: {', '.join(map(name_of, first))}"


def validation_accuracies(evaluations: Sequence[Evaluate]) -> list[float | None]:
    """What a search may choose by: the accuracy on validation in percent of every evaluation that is done, else None.

    Test accuracies are in the table, where nothing is chosen by them.
    """
    return [100 * evaluation.result().validation_accuracy if evaluation.is_done else None for evaluation in evaluations]


def write_hparams(rows: Sequence[Row], folder: Path) -> None:
    """A run per row for TensorBoard's HParams page: settings beside what they gave."""
    from neurogen.events import Events
    from neurogen.report.formats import slug
    from neurogen.report.study_tables import names_of

    for row in rows:
        measured = {name: getattr(row, name) for name in ("classical_mean", "generated_mean")}
        figures = {name: value for name, value in measured.items() if value is not None}
        name = f"hparams-{slug(row)}"
        shutil.rmtree(folder / name, ignore_errors=True)  # of an earlier table: its figures would be shown beside these
        with Events(folder) as events, events.adding() as writer:
            writer.add_hparams(names_of(row), figures, run_name=name)


def main() -> None:
    """Make the tables of a sweep again, from the configs that it keeps."""
    make_lasting()
    parser = Parser(description="Make the tables, plots and the report of a sweep again.")
    parser.add_argument("sweep", type=Path, help="its folder: ROOT/sweeps/NAME")
    with errors_in_one_line():
        aggregate_again(parser.parse_args().sweep)


def aggregate_again(folder: Path) -> None:
    """Make the tables of the sweep in this folder again and show them.

    Where its data or code are gone, or others by now, the tables are shown as they were made. Raises UserError where
    there are none, Incomplete where evaluations are missing.
    """
    from neurogen.report.terminal import show, show_as_made
    from neurogen.training.runtime import runtime_here

    try:
        last = study_in(folder)
        with advising(Unwritable, "free some space or make the folder writable"):
            aggregate(last, runtime_here("cpu"))
            if last.is_done:
                mark_done(last.folder)  # with other tables
    except Incomplete:
        show(last)
        raise
    except UserError as error:
        if not (folder / RESULTS_FILE).is_file():
            raise
        print(f"shown as it was made: {error}")
        show_as_made(folder)
        if not is_done(folder):
            raise Incomplete(f"{folder} has the table of a part of its sweep; run the sweep again") from error
    else:
        show(last)


def study_in(folder: Path) -> Aggregate:
    """The study of the sweep in this folder, which may have been moved together with the rest of its root.

    Raises UserError where there is no sweep, its data cannot be found, or are not those that it was made of.
    """
    from neurogen.study.graph import steps_of

    folder = folder.resolve()
    experiments = experiments_in(folder)
    if not experiments and (folder / RESULTS_FILE).is_file():
        raise UserError(f"{folder.name} is of a single run; the same run again makes a new table")
    if not experiments:
        raise UserError(f"{folder} holds no configs/*.yaml; give the folder of a sweep, ROOT/sweeps/NAME")
    last = steps_of(experiments)
    if last.folder.name != folder.name:
        raise UserError(
            f"the data or the code of {folder.name} have changed since; run the sweep again for a new table"
        )
    return last


def texts_in(value: Any) -> Iterator[str]:
    """All texts of plain values, without the keys."""
    if isinstance(value, (dict, list)):
        for member in value.values() if isinstance(value, dict) else value:
            yield from texts_in(member)
    elif isinstance(value, str):
        yield value


def experiments_in(folder: Path) -> list[Experiment]:
    """Those of the sweep in this folder, whose root may have been moved; none where it keeps no configs.

    Raises UserError where a config is broken, or refers to something outside, for example a variable.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from neurogen.experiment import experiment_from

    folder = folder.resolve()
    experiments = []
    for path in sorted((folder / "configs").glob("*.yaml")):
        try:
            config = OmegaConf.create(path.read_text(encoding="utf-8"))
        except (OmegaConfBaseException, YAMLError) as error:
            raise UserError(f"{path} is broken ({one_line(error)}); run the sweep again") from error
        if any(map(REFERENCE.search, texts_in(OmegaConf.to_container(config)))):
            raise UserError(f"{path} has a ${{…}}, which no sweep has written; run the sweep again")
        experiments.append(experiment_from(config))
    return [replace(experiment, root=str(folder.parent.parent)) for experiment in experiments]


if __name__ == "__main__":
    main()
