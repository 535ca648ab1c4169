"""From evaluations to the rows of a table: which evaluations form a cell, and what its seeds gave together.

in:  the evaluations of a study, some of them done
out: a Row per dataset × target × backbone × recipe × whatever else the study varies, with accuracies in percent

Classical networks are each trained from a seed of their own, those of a zoo each in an order of their own: their
deviation is over networks. That of all others is over the means of the seeds, or over networks where there is one seed.
Where networks are for lists of classes, there is a value per list, and some lists are harder than others: the deviation
of every kind of network is over the means of the seeds, or over lists where there is one seed.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from neurogen.config import DatasetConfig
from neurogen.report import paper
from neurogen.report.list_summaries import few_shot_of, naming_of
from neurogen.report.table import rounded
from neurogen.study.execution import in_order
from neurogen.study.pipeline import Aggregate, Evaluate, Tune
from neurogen.study.results import (
    Environment,
    EvaluationResult,
    Population,
    PopulationResult,
    from_json,
    measured,
    to_json,
)
from neurogen.study.rows import NAMES, PopulationSummary, Row, Status
from neurogen.study.step import Step, flat, name_of

INDEPENDENT = (Population.CLASSICAL, Population.ZOO)  # networks that are each trained by themselves
OPTIONAL = ("recipe.inject.", "recipe.adapt.", "source.")  # settings of what a point may do without
WITHOUT_STAGE_1 = {"steps": 0}
PARTS = ("conditions", "norms", "noise", "ensembles", "matched_strengths")  # averaged over seeds as they are

Cell = tuple[str, ...]  # values of NAMES


def cells_of(study: Aggregate) -> dict[Cell, list[Evaluate]]:
    """The evaluations of every cell: equal in dataset, target, backbone, recipe, variant, and in every setting in which
    the evaluations that share these differ from each other."""
    named: dict[tuple[str, ...], list[Evaluate]] = defaultdict(list)
    for evaluation, variant in zip(study.evaluations, study.variants, strict=True):
        task = evaluation.task
        shared = (task.dataset.name, task.target.name, evaluation.tune.backbone.name, evaluation.recipe)
        named[*shared, variant or ""].append(evaluation)
    cells: dict[Cell, list[Evaluate]] = defaultdict(list)
    for (*names, variant), members in named.items():
        settings = [settings_of(member) for member in members]
        varied = varied_keys(settings)
        for member, values in zip(members, settings, strict=True):
            differing = [f"{key}={values.get(key)}" for key in varied if applies(key, values)]
            cells[*names, " ".join(filter(None, [variant, *differing]))].append(member)
    return cells


def varied_keys(settings: Sequence[dict[str, Any]]) -> list[str]:
    """The keys whose values differ between points, in the order in which points have them."""
    keys = dict.fromkeys(key for values in settings for key in values)
    return [key for key in keys if len({str(values.get(key)) for values in settings if applies(key, values)}) > 1]


def applies(key: str, settings: dict[str, Any]) -> bool:
    """Whether a point is described by the key: not by the settings of stage 1, of a source or of an adaptation that it
    does not have."""
    return key in settings or not key.startswith(OPTIONAL)


def settings_of(evaluation: Evaluate) -> dict[str, Any]:
    """Everything but seeds that determines the evaluation, by the names of the command line."""
    zoo, inject, last = evaluation.zoo.references[0], evaluation.tune.inject, evaluation.tune
    learned = last.stages[0].tasks
    tune = last.start if isinstance(last.start, Tune) else last  # stage 2; after it, a held-out task is adapted to
    is_held_out = tune is not last
    has_source = not is_held_out and learned[0] != evaluation.task and len(learned) == 1
    source = learned[0].target if has_source else None
    sections: dict[str, Any] = {
        "dataset": with_short_names(evaluation.task.dataset),
        "target": evaluation.task.target,
        "backbone": last.backbone,
        "zoo.training": zoo.training,
        "classical": evaluation.classical.classical,
        "generator": last.generator,
        "recipe.inject": inject.stage if inject else WITHOUT_STAGE_1,
        "source.options": source.options if source else {},
        "recipe.tune": tune.stage,
        "recipe.adapt": last.stage if is_held_out else {},
        "evaluate": evaluation.evaluate,
    }
    if zoo.few_shot is not None and evaluation.few_shot is not None:
        sections |= {
            "few_shot.data": with_short_names(zoo.few_shot.task.dataset),
            "few_shot.episodes": zoo.few_shot.episodes or {},
            "few_shot.test": with_short_names(evaluation.few_shot.task.dataset),
            "few_shot": {"test_shots": list(evaluation.few_shot.shots)},
        }
    plain = {name: section if isinstance(section, dict) else asdict(section) for name, section in sections.items()}
    return dict(flat(plain)) | {
        "tasks": "+".join(task.name for task in learned) if is_held_out or len(learned) > 1 else "alone",
        "held_out": is_held_out,
        "target@source": source.name if source else None,
        "zoo.num_networks": sum(reference.num_networks for reference in evaluation.zoo.references),
        "zoo.init": zoo.init,
        "zoo.shared_epochs": zoo.shared_epochs,
        "zoo.align": evaluation.zoo.align,
    }


def with_short_names(dataset: DatasetConfig) -> dict[str, Any]:
    """The settings of a dataset, with a digest for all names of its classes, which may be hundreds."""
    settings = asdict(dataset)
    if names := settings.pop("names"):
        settings["names"] = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:6]
    return settings


def row_of(cell: Cell, evaluations: Sequence[Evaluate]) -> Row:
    """All that tables and plots say of a cell. Raises UserError where a finished step's results cannot be read."""
    done = [evaluation for evaluation in evaluations if evaluation.is_done]
    results = [evaluation.result() for evaluation in done]
    populations = summaries_of(results)
    steps = [step for step in steps_of(evaluations) if step.is_done]
    metrics = {name_of(step): step.metrics() for step in steps}
    environments = [from_json(Environment, step.environment(), step.folder) for step in steps]
    values: dict[str, Any] = {
        **dict(zip(NAMES, cell, strict=True)),
        "status": Status.OK if len(done) == len(evaluations) else Status.INCOMPLETE,
        "n_expected": sum(evaluation.evaluate.num_contexts for evaluation in evaluations),
        **accuracy_columns(populations),
        **paper_of(evaluations),
        "gpu_hours": round(sum(measured["gpu_hours"] for measured in metrics.values()), 3),
        "validation": rounded(2, [100 * result.validation_accuracy for result in results]),
        "steps_to_90": rounded(1, [steps_to_90(evaluation) for evaluation in done]),
        "n_seeds": len(done),
        "num_test": results[0].num_test if results else None,
        "commits": sorted({environment.commit or "unknown" for environment in environments}),
        "machines": sorted({machine_of(environment) for environment in environments}),
        "revisions": sorted({f"{name} {commit}" for e in environments for name, commit in e.revisions.items()}),
        "seconds": {step: measured["seconds"] for step, measured in metrics.items()},
        "populations": to_json(populations),
    }
    if results:
        values["naming"] = to_json(naming_of(results))
        values["few_shot"] = to_json(few_shot_of(results))
        values |= averaged([{name: to_json(getattr(result, name)) for name in PARTS} for result in results])
    return from_json(Row, values, evaluations[0].folder)


def steps_of(evaluations: Sequence[Evaluate]) -> list[Step]:
    """The evaluations and all that they need, each step once."""
    return list({step.folder: step for evaluation in evaluations for step in in_order(evaluation)}.values())


def accuracy_columns(populations: dict[str, PopulationSummary]) -> dict[str, Any]:
    """The columns that say what populations are worth."""

    def value(name: Population, measure: str) -> Any:
        return getattr(populations[name], measure) if name in populations else None

    classical, generated = (value(name, "accuracy") for name in (Population.CLASSICAL, Population.GENERATED))
    return {
        "n_ok": value(Population.GENERATED, "n") or 0,
        "n_classical": value(Population.CLASSICAL, "n") or 0,
        "classical_mean": classical,
        "classical_std": value(Population.CLASSICAL, "std"),
        "generated_mean": generated,
        "generated_std": value(Population.GENERATED, "std"),
        "zoo_mean_network": value(Population.ZOO_MEAN, "accuracy"),
        "random_init": value(Population.RANDOM, "accuracy"),
        "ratio": round(generated / classical, 4) if classical else None,
        "inject_accuracy": value(Population.AFTER_INJECT, "accuracy"),
        "max_iou": value(Population.GENERATED, "max_iou"),
        "zoo_iou": value(Population.ZOO, "max_iou"),
        "min_l2": value(Population.GENERATED, "min_l2"),
        "zoo_min_l2": value(Population.ZOO, "min_l2"),
    }


def paper_of(evaluations: Sequence[Evaluate]) -> dict[str, Any]:
    """The columns of the paper's figures: empty for what the paper's Table 1 does not have."""
    published = paper.published_of(evaluations[0])  # those of a cell differ in their seeds alone
    return {
        "paper_dataset": published.dataset if published else None,
        "paper_classical": published.classical if published else None,
        "paper_generated": published.generated if published else None,
    }


def steps_to_90(evaluation: Evaluate) -> float:
    """Steps of stage 2 until a generated network has nine tenths of its last accuracy on validation, as far as that is
    measured."""
    series = measured(evaluation.history(evaluation.tune), "validation_accuracy")
    return next(step for step, accuracy in series if accuracy >= 0.9 * series[-1][1])


def machine_of(environment: Environment) -> str:
    """The hardware in words."""
    gpus = environment.gpus
    return f"{len(gpus)} × {gpus[0]}" if gpus else f"{environment.cpu_cores} cores of {environment.cpu}"


def summaries_of(results: Sequence[EvaluationResult]) -> dict[str, PopulationSummary]:
    """Every population over all seeds."""
    names = dict.fromkeys(name for result in results for name in result.populations)
    by_name = {name: [r.populations[name] for r in results if name in r.populations] for name in names}
    of_lists = any(result.naming for result in results)
    return {name: summary_of(name, by_seed, of_lists) for name, by_seed in by_name.items()}


def summary_of(name: str, by_seed: Sequence[PopulationResult], of_lists: bool) -> PopulationSummary:
    """Means over all networks, or over all lists of classes; the deviation as the head of this file says."""
    percent = [[100 * accuracy for accuracy in result.accuracy] for result in by_seed]
    pooled = [accuracy for networks in percent for accuracy in networks]
    is_over_networks = (name in INDEPENDENT and not of_lists) or len(percent) == 1
    varied = pooled if is_over_networks else [statistics.fmean(networks) for networks in percent]
    unseen = [accuracy for result in by_seed for accuracy in result.unseen or ()]
    return PopulationSummary(
        accuracy=round(statistics.fmean(pooled), 2),
        std=round(statistics.stdev(varied), 2) if len(varied) > 1 else None,
        n=len(pooled),
        max_iou=rounded(4, [value for result in by_seed for value in result.max_iou if value is not None]),
        min_l2=rounded(4, [value for result in by_seed for value in result.min_l2]),
        unseen=rounded(4, unseen),
        spread=rounded(4, [result.spread for result in by_seed if result.spread is not None]),
    )


def averaged(parts: Sequence[Any]) -> Any:
    """Nested dictionaries of numbers or lists of numbers, one for each seed → the same dictionary of their means."""
    if isinstance(parts[0], dict):
        names = dict.fromkeys(name for part in parts for name in part)
        return {name: averaged([part[name] for part in parts if name in part]) for name in names}
    return rounded(4, [value for part in parts for value in (part if isinstance(part, list) else [part])])
