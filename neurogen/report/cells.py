"""The rows of a table: which evaluations are one cell, and what the seeds of a cell gave together.

in:  evaluations, some of them done
out: a row per dataset × target × backbone × recipe × whatever else a sweep varies, with accuracies in percent

Classical networks are each trained from a seed of their own, those of a zoo each in an order of their own: their
deviation is over networks; that of all others over the means of the seeds, or over networks where there is one seed.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from neurogen.report import paper
from neurogen.study.pipeline import Aggregate, Evaluate, Tune, in_order

NAMES = ("dataset", "target", "backbone", "recipe", "settings")
INDEPENDENT = ("classical", "zoo")  # populations whose networks are each trained on their own

WITHOUT_STAGE_1 = {"steps": 0}
Cell = tuple[str, ...]  # values of NAMES


def cells_of(study: Aggregate) -> dict[Cell, list[Evaluate]]:
    """By dataset, target, backbone, recipe, variant, and what else differs between evaluations that share these."""
    named: dict[tuple[str, ...], list[Evaluate]] = defaultdict(list)
    for one, variant in zip(study.evaluations, study.variants, strict=True):
        shared = (one.task.dataset.name, one.task.target.name, one.tune.backbone.name, one.recipe)
        named[*shared, variant or ""].append(one)
    cells: dict[Cell, list[Evaluate]] = defaultdict(list)
    for (*names, variant), members in named.items():
        settings = [settings_of(member) for member in members]
        keys = dict.fromkeys(key for own in settings for key in own)
        varied = [key for key in keys if len({str(own.get(key)) for own in settings if tells(own, key)}) > 1]
        for member, own in zip(members, settings, strict=True):
            differing = [f"{key}={own.get(key)}" for key in varied if tells(own, key)]
            cells[*names, " ".join(filter(None, [variant, *differing]))].append(member)
    return cells


def tells(settings: dict[str, Any], key: str) -> bool:
    """Where stage 1 is left out, only that is told of it; nor of a source or an adaptation that is not there."""
    return key in settings or not key.startswith(("recipe.inject.", "recipe.adapt.", "source."))


def settings_of(evaluation: Evaluate) -> dict[str, Any]:
    """Everything but seeds that determines the evaluation, by the names that the command line has for it."""
    e, zoo, inject = evaluation, evaluation.zoo.references[0], evaluation.tune.inject
    learned, met = e.tune.stages[0].tasks, isinstance(e.tune.start, Tune)
    tune = e.tune.start if isinstance(e.tune.start, Tune) else e.tune
    source = learned[0].target if not met and learned[0] != e.task and len(learned) == 1 else None
    sections: dict[str, Any] = {
        "dataset": e.task.dataset,
        "target": e.task.target,
        "backbone": e.tune.backbone,
        "zoo.training": zoo.training,
        "classical": e.classical.classical,
        "generator": e.tune.generator,
        "recipe.inject": inject.stage if inject else WITHOUT_STAGE_1,
        "source.options": source.options if source else {},
        "recipe.tune": tune.stage,
        "recipe.adapt": e.tune.stage if met else {},
        "evaluate": e.evaluate,
    }
    found = {
        f"{name}.{key}": value
        for name, part in sections.items()
        for key, value in flat(part if isinstance(part, dict) else asdict(part))
    }
    num_networks = sum(reference.num_networks for reference in e.zoo.references)
    return found | {
        "tasks": "+".join(task.name for task in learned) if met or len(learned) > 1 else "alone",
        "held_out": met,
        "target@source": source.name if source else None,
        "zoo.num_networks": num_networks,
        "zoo.init": zoo.init,
        "zoo.shared_epochs": zoo.shared_epochs,
        "zoo.align": e.zoo.align,
    }


def flat(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{inner}", one) for inner, one in flat(value))
        else:
            yield key, value


def row_of(cell: Cell, evaluations: Sequence[Evaluate]) -> dict[str, Any]:
    """All that tables and plots tell of a cell."""
    done = [evaluation.metrics() for evaluation in evaluations if evaluation.is_done]
    steps = {step.folder: step for evaluation in evaluations for step in in_order(evaluation) if step.is_done}
    populations = populations_of([metrics["populations"] for metrics in done])
    classical, zoo, generated = (populations.get(name, {}) for name in ("classical", "zoo", "generated"))
    both_stages = all(evaluation.tune.inject for evaluation in evaluations)
    published = paper.table_1(cell[0], cell[1]) if both_stages else None
    return dict(zip(NAMES, cell, strict=True)) | {
        "status": "ok" if len(done) == len(evaluations) else "incomplete",
        "n_ok": generated.get("n", 0),
        "n_expected": sum(evaluation.evaluate.num_contexts for evaluation in evaluations),
        "classical_mean": classical.get("accuracy"),
        "classical_std": classical.get("std"),
        "generated_mean": generated.get("accuracy"),
        "generated_std": generated.get("std"),
        "zoo_mean_network": populations.get("zoo_mean_network", {}).get("accuracy"),
        "random_init": populations.get("random_init", {}).get("accuracy"),
        "ratio": round(generated["accuracy"] / classical["accuracy"], 4) if done else None,
        "inject_accuracy": populations.get("after_inject", {}).get("accuracy"),
        "max_iou": generated.get("max_iou"),
        "zoo_iou": zoo.get("max_iou"),
        "gpu_hours": round(sum(step.metrics()["gpu_hours"] for step in steps.values()), 3),
        "min_l2": generated.get("min_l2"),
        "zoo_min_l2": zoo.get("min_l2"),
        "validation": round(statistics.fmean(100 * one["validation_accuracy"] for one in done), 2) if done else None,
        "steps_to_90": round(statistics.fmean(steps_to_90(one) for one in evaluations if one.is_done), 1)
        if done
        else None,
        "n_seeds": len(done),
        "n_classical": classical.get("n", 0),
        "paper_dataset": published.dataset if published else None,
        "paper_classical": published.classical if published else None,
        "paper_generated": published.generated if published else None,
        "num_test": done[0]["num_test"] if done else None,
        "commits": sorted({step.environment()["commit"] or "unknown" for step in steps.values()}),
        "machines": sorted({machine_of(step.environment()) for step in steps.values()}),
        "seconds": {f"{step.kind}-{step.key}": step.metrics()["seconds"] for step in steps.values()},
        "populations": populations,
        **(averaged([{name: metrics[name] for name in REPORTS} for metrics in done]) if done else {}),
    }


def steps_to_90(evaluation: Evaluate) -> float:
    """Steps of stage 2 until a generated network has nine tenths of its final accuracy on validation, as it is measured
    every now and then."""
    rows = [row for row in evaluation.history(evaluation.tune) if "validation_accuracy" in row]
    return next(row["step"] for row in rows if row["validation_accuracy"] >= 0.9 * rows[-1]["validation_accuracy"])


def machine_of(environment: dict[str, Any]) -> str:
    gpus = environment["gpus"]
    cpu = environment.get("cpu", "a CPU")  # not noted by older versions
    return f"{len(gpus)} × {gpus[0]}" if gpus else f"{environment['cpu_cores']} cores of {cpu}"


REPORTS = ("conditions", "norms", "noise", "ensembles", "imitation_strengths")


def populations_of(done: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """population → accuracy and its deviation in percent, n, and the means of whatever else was measured of it."""
    found = {}
    for name in dict.fromkeys(name for populations in done for name in populations):
        parts = [populations[name] for populations in done if name in populations]
        by_seed = [[100 * accuracy for accuracy in part["accuracy"]] for part in parts]
        everyone = [accuracy for own in by_seed for accuracy in own]
        varied = everyone if name in INDEPENDENT or len(by_seed) == 1 else [statistics.fmean(own) for own in by_seed]
        found[name] = averaged(parts) | {
            "accuracy": round(statistics.fmean(everyone), 2),
            "std": round(statistics.stdev(varied), 2) if len(varied) > 1 else None,
            "n": len(everyone),
        }
    return found


def averaged(parts: Sequence[Any]) -> Any:
    """Mappings of numbers or lists of numbers, one a seed → the same mapping of their means; None for no numbers."""
    if isinstance(parts[0], dict):
        names = dict.fromkeys(name for part in parts for name in part)
        return {name: averaged([part[name] for part in parts if name in part]) for name in names}
    numbers = [number for part in parts for number in (part if isinstance(part, list) else [part])]
    return round(statistics.fmean(numbers), 4) if numbers else None
