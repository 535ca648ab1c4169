"""The plan of a sweep: all its experiments as one graph of steps, for the launchers of hpc.

in:  what Hydra composed for every point, and the overrides of each
out: an hpc.jobs.sweep.Sweep, which also knows how to show estimates and the finished table

conf/hydra/launcher names `plan`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurogen.config.schema import written
from neurogen.errors import UserError

if TYPE_CHECKING:
    from hpc.jobs.cluster import Cluster
    from hpc.jobs.sweep import Sweep
    from neurogen.config import Experiment, StepKind
    from neurogen.cost.estimate import Estimate
    from neurogen.cost.room import Memory
    from neurogen.study.pipeline import Aggregate, Evaluate


# What is asked of a sweep, not of its points
OF_ALL_POINTS = (
    *("device", "num_threads", "batch_tokens", "deterministic", "zero", "cluster"),
    *("dry_run", "fetch", "site_check", "stop_after"),
)
# Beside LIBRARIES of environment.py
NEEDED_BY_JOBS = (
    "tokenizers",
    "safetensors",
    "huggingface-hub",
    "datasets",
    "deepspeed",
)


def plan(composed: Sequence[Any], overrides: Sequence[Sequence[str]]) -> Sweep:
    """The points of a sweep as one graph. Raises UserError for the first that cannot work."""
    from hpc.jobs.cluster import cluster_from
    from hpc.jobs.sweep import Sweep
    from hpc.ranks.zero import zero_from
    from neurogen import program
    from neurogen.aggregate import validation_accuracies
    from neurogen.environment import LIBRARIES, commit_here
    from neurogen.experiment import experiment_from
    from neurogen.store import mark_root
    from neurogen.study.graph import evaluations_of, study_of

    experiments = [experiment_from(point) for point in composed]
    first = experiments[0]
    site = cluster_from(first.cluster)
    share_places(site.environment)
    require_one_runtime(experiments)
    for experiment in experiments:
        require_whole(experiment)
        require_equal_shares(experiment, site)
    evaluations = evaluations_of(experiments)
    last = study_of(experiments, evaluations)
    say_equal_points(experiments, overrides, evaluations)
    if not first.dry_run:
        require_backbones(experiments, last)
        mark_root(Path(first.root))  # the launcher writes into it before the first step does
    packages = {name.split(".")[0] for name in importable_functions(experiments) if "." in name}
    return Sweep(
        last=last,
        root=Path(first.root),
        program=program.NAME,
        runtime=program.settings_of(first),
        inputs=program.inputs_of(last),
        packages=tuple(sorted({"neurogen", "hpc", *packages})),
        configs=tuple(composed),
        overrides=tuple(tuple(words) for words in overrides),
        values=partial(validation_accuracies, evaluations),
        zero=zero_from(first.zero),
        commit=commit_here(),
        libraries=(*LIBRARIES, *NEEDED_BY_JOBS),
        site_check=first.site_check,
        dry_run=first.dry_run,
        fetch=partial(bring_sources, first, last),
        stop_after=first.stop_after,
        environment=environment_of_jobs(first),
        show_estimates=lambda: show_estimates(experiments, evaluations),
        show=partial(show_table, last),
    )


def share_places(environment: Mapping[str, str]) -> None:
    """Look here for data and models where jobs with these variables will. The user's token stays where it is."""
    places = {name: environment[name] for name in ("NEUROGEN_CACHE", "HF_HUB_CACHE") if name in environment}
    if "HF_HOME" in environment:
        places.setdefault("HF_HUB_CACHE", os.path.join(environment["HF_HOME"], "hub"))
    os.environ.update(places)


def environment_of_jobs(experiment: Experiment) -> dict[str, str]:
    """What jobs must know, since a site may not hand the environment on: where everything is, and not to download."""
    from neurogen.cache import cache_folder
    from neurogen.downloads.repository import hub_cache

    places = {"NEUROGEN_CACHE": str(cache_folder().absolute()), "HF_HUB_CACHE": str(hub_cache())}
    if "HF_HOME" in os.environ:
        places["HF_HOME"] = os.path.abspath(os.environ["HF_HOME"])
    return places | ({"HF_HUB_OFFLINE": "1"} if experiment.fetch else {})


def bring_sources(experiment: Experiment, last: Aggregate) -> None:
    """Bring here what undone steps read from outside. Raises UserError where that cannot be done."""
    from neurogen.config import StopAfter
    from neurogen.downloads.fetch import fetch
    from neurogen.fetch import sources_of
    from neurogen.study.execution import in_order

    if experiment.fetch:
        fetch(sources_of(in_order(last)), say_all=experiment.stop_after == StopAfter.fetch)


def say_equal_points(
    experiments: Sequence[Experiment], overrides: Sequence[Sequence[str]], evaluations: Sequence[Evaluate]
) -> None:
    """Print which points are one experiment, so that nobody looks for a row each.

    Points that differ in how held-out tasks are adapted share their learned tasks on purpose.
    """
    if any(e.held_out for e in experiments):
        return
    first: dict[str, Sequence[str]] = {}
    for evaluation, words in zip(evaluations, overrides, strict=True):
        known = first.setdefault(evaluation.key, words)
        if known is not words:
            both = [[word for word in ours if word not in others] for ours, others in ((words, known), (known, words))]
            differing = " and ".join(" ".join(part) for part in both if part) or " ".join(words)
            print(f"  {differing}: the same experiment, which is run once and has one row")


def require_one_runtime(experiments: Sequence[Experiment]) -> None:
    """The jobs of a sweep share what says how they run. Raises UserError where points differ in it."""
    first = experiments[0]
    for name in OF_ALL_POINTS:
        for e in experiments[1:]:
            values = [getattr(point, name) for point in (first, e)]
            if values[0] != values[1]:
                given = "" if isinstance(values[0], dict) else f" ({written(values[0])} and {written(values[1])})"
                raise UserError(
                    f"{name} differs between points of this sweep{given}; give it one value, or make two sweeps"
                )


def require_whole(e: Experiment) -> None:
    """A sweep runs all steps. Raises UserError where an experiment asks for a part of them."""
    if e.only is not None or e.num_parts != 1:
        given = f"only={written(e.only)}" if e.only is not None else f"part={e.part} num_parts={e.num_parts}"
        raise UserError(f"{given} chooses among the steps of a single run; a sweep does them all: leave it out")


def importable_functions(experiments: Sequence[Experiment]) -> set[str]:
    """The loaders and builders of all experiments. Raises UserError for one that no job could import either."""
    from neurogen.experiment import BUILT_INS, named_function

    read = [e.dataset for e in experiments]
    read += [data for e in experiments if e.few_shot is not None for data in (e.few_shot.data, e.few_shot.test)]
    functions = {load: "dataset.load" for data in read for load in (data.load, *(part.load for part in data.parts))} | {
        target.build: "target.build" for e in experiments for target in (e.target, e.source) if target is not None
    }
    for name, key in functions.items():
        if name not in BUILT_INS[key]:  # importing those takes seconds
            named_function(key, name)
    return set(functions)


def require_equal_shares(e: Experiment, site: Cluster) -> None:
    """The ranks of a job share the contexts of a step. Raises UserError where they cannot do so equally."""
    from neurogen.config.rules import require_shares

    require_shares("inject", e.recipe.inject, site.resources("inject").num_ranks)
    require_shares("tune", e.recipe.tune, site.resources("tune").num_ranks)
    if e.held_out:
        require_shares("adapt", e.recipe.adapt, site.resources("tune").num_ranks)


def require_backbones(experiments: Sequence[Experiment], last: Aggregate) -> None:
    """Raises UserError for a backbone that jobs to come could not use. Random weights, for tests, are let through.

    With fetch=false so is a backbone that is not here: there may be no network where this is submitted.
    """
    from neurogen.downloads.models import is_described_here
    from neurogen.study.execution import in_order

    undone = {step.kind for step in in_order(last) if not step.is_done}
    published = {e.cost_key: e for e in experiments if e.backbone.random_seed is None}
    published = {key: e for key, e in published.items() if e.fetch or is_described_here(e.backbone)}
    for experiment in published.values() if undone else ():
        require_backbone(experiment, undone)


def require_backbone(e: Experiment, kinds: set[StepKind], memory: Memory | None = None) -> None:
    """Raises UserError where the backbone is none, or cannot read what steps of these kinds would show it, or that does
    not fit into the memory of this machine."""
    from neurogen.config import StepKind
    from neurogen.cost.room import require_room
    from neurogen.generator.usable import require_usable

    require_usable(e.backbone)
    if kinds & {StepKind.inject, StepKind.tune}:
        require_room(e, memory)


def show_table(last: Aggregate) -> None:
    """The table, also of a part of the points; nothing where no table could be made."""
    from neurogen.report.terminal import show
    from neurogen.study.rows import RESULTS_FILE

    if (last.folder / RESULTS_FILE).exists():
        show(last)


def show_estimates(experiments: Sequence[Experiment], evaluations: Sequence[Evaluate] | None = None) -> None:
    """A table for every kind of experiment, and what the steps of all of them take, each counted once.

    `evaluations` are those of the experiments, where they are known.
    """
    from neurogen.cost.estimate import estimate
    from neurogen.cost.ledger import ledger_of
    from neurogen.cost.scaling import plans_of
    from neurogen.report.estimates import show_estimate
    from neurogen.report.terminal import show_costs

    estimates: dict[str, Estimate] = {}
    for e in experiments:
        key = e.cost_key
        if key not in estimates:
            estimates[key] = estimate(e)
            show_estimate(e, estimates[key], plans_of(estimates[key], e))
    show_costs(ledger_of(experiments, estimates, evaluations))
