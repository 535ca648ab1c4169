"""The steps of one experiment, done in this process, which may be one rank of several.

in:  an experiment, and the rank that this process is
out: the folders of its steps; or what is wrong, before any of them has begun
"""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from neurogen.errors import Interrupted, UserError

if TYPE_CHECKING:
    from hpc.ranks.placement import Placement
    from neurogen.config import Experiment, StepKind
    from neurogen.cost.room import Memory
    from neurogen.study.pipeline import Aggregate
    from neurogen.study.step import Step
    from neurogen.training.runtime import Runtime


@dataclass(frozen=True)
class Planned:
    """What a run will do: its steps in order, of which some may be done, and the last step of the experiment."""

    steps: list[Step]
    last: Aggregate | None  # None where no step is to be run


def run_experiment(experiment: Experiment, stop: Event) -> None:
    """Do the steps that are not done, in this process, which may be one rank of several.

    With dry_run=true, print what it would cost and do nothing. Raises Interrupted when `stop` is set and everything
    needed to go on is saved.
    """
    from hpc.ranks.placement import Placement

    placement = Placement.from_environment(os.environ)
    run_steps(experiment, prepare(experiment, placement).steps, placement, stop)


def prepare(experiment: Experiment, placement: Placement) -> Planned:
    """The steps of an experiment, after everything is here that they read from outside.

    Raises UserError or ClusterError for what cannot work. Rank 0 brings what is missing; the other ranks wait for it.
    """
    from neurogen.config import StopAfter
    from neurogen.downloads.fetch import fetch, wait_for
    from neurogen.fetch import sources_of
    from neurogen.study.execution import chosen
    from neurogen.study.graph import steps_of
    from neurogen.sweep import require_backbone, show_estimates

    if experiment.stop_after == StopAfter.check:
        check_nodes(experiment)
        return Planned([], None)
    if experiment.dry_run:
        show_estimates([experiment])
        return Planned([], None)
    try:
        last = steps_of([experiment])
    except UserError as error:
        raise UserError(f"{error}{_tables_of(experiment)}") from error
    steps = chosen(last, experiment.only, experiment.part, experiment.num_parts)
    undone = {step.kind for step in steps if not step.is_done}
    if placement.size > 1 or undone:
        require_ranks(experiment, placement, undone)
    if experiment.fetch and placement.rank != 0:
        wait_for(sources_of(steps))
    if placement.size > 1 or undone:
        require_backbone(experiment, undone, memory_here(experiment) if placement.size == 1 else None)
    if experiment.fetch and placement.rank == 0:
        fetch(sources_of(steps), say_all=experiment.stop_after == StopAfter.fetch)
    return Planned([], None) if experiment.stop_after == StopAfter.fetch else Planned(steps, last)


def run_steps(experiment: Experiment, steps: Sequence[Step], placement: Placement, stop: Event) -> None:
    """Do those of these steps that are not done. Raises Interrupted as `run_experiment` does."""
    from neurogen.study.execution import run_here

    if (placement.size > 1 and steps) or any(not step.is_done for step in steps):
        with runtime_of(experiment, placement, stop) as runtime:
            run_here(steps, runtime)


def check_nodes(experiment: Experiment) -> None:
    """The site check on this rank of a job. Raises ClusterError with what is wrong, or outside a job."""
    from hpc.jobs.check_here import check_here
    from neurogen.environment import LIBRARIES
    from neurogen.program import NAME, inputs_of
    from neurogen.study.graph import steps_of

    inputs = inputs_of(steps_of([experiment]))
    check_here(Path(experiment.root), ("neurogen", "hpc"), LIBRARIES, NAME, inputs, Interrupted, Event())


def require_ranks(experiment: Experiment, placement: Placement, kinds: set[StepKind]) -> None:
    """Raises ClusterError or UserError where ranks cannot share steps of these kinds, before any of them has begun."""
    from hpc.ranks.zero import require_usable, zero_from
    from neurogen.config import StepKind
    from neurogen.config.rules import require_shares

    require_usable(zero_from(experiment.zero), placement.size)
    for kind, stage in ((StepKind.inject, experiment.recipe.inject), (StepKind.tune, experiment.recipe.tune)):
        if kind in kinds:
            require_shares(kind, stage, placement.size)


def memory_here(experiment: Experiment) -> Memory | None:
    """What is free on this machine; None where the system does not say."""
    from neurogen.cost.room import Memory
    from neurogen.program import runtime_from, settings_of
    from neurogen.training.memory import free_memory

    runtime = runtime_from(settings_of(experiment))  # as the steps will have it: it prepares the GPU once in a process
    free = free_memory(runtime.device)
    return None if free is None else Memory(free, runtime.dtype)


def _tables_of(experiment: Experiment) -> str:
    """Where to see the newest tables of an experiment whose data are gone; '' where there are none."""
    from neurogen.study.graph import study_name
    from neurogen.study.rows import RESULTS_FILE

    pattern = f"sweeps/{glob.escape(study_name([experiment]))}-*/{RESULTS_FILE}"
    tables = sorted(Path(experiment.root).glob(pattern), key=lambda path: path.stat().st_mtime)
    command = ["python", "-m", "neurogen.aggregate", str(tables[-1].parent)] if tables else []
    return f"; tables made before are shown by {shlex.join(command)}" if command else ""


def runtime_of(experiment: Experiment, placement: Placement, stop: Event) -> AbstractContextManager[Runtime]:
    """This process, or one rank of those that torchrun or srun started together; `stop` is its stop flag."""
    from hpc.ranks.distributed import runtime_of_ranks
    from hpc.ranks.zero import among, zero_from
    from neurogen.program import runtime_from, settings_of

    zero = among(zero_from(experiment.zero), placement.size)
    return runtime_of_ranks(partial(runtime_from, settings_of(experiment)), zero, placement, stop)
