"""From steps to batches; one batch is one call of sbatch.

in:  steps, which know what they need
out: batches, each after those that it needs: arrays of similar steps, every other step by itself

A batch is named after its steps, so that the same work has the same name, whoever submits it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

LONGEST_LABEL = 60  # characters in a job's name; SLURM, folders and some sites have limits


class Step(Protocol):
    """A piece of work that leaves its result in a folder."""

    @property
    def kind(self) -> str:
        """What it does. The resources of each kind are listed in conf/cluster."""

    @property
    def key(self) -> str:
        """A hash: equal steps have equal keys."""

    @property
    def label(self) -> str:
        """A readable name, not unique."""

    @property
    def array(self) -> str | None:
        """Steps with the same value are submitted as one array; None: as a job of its own."""

    @property
    def shared(self) -> bool:
        """Whether several ranks of one job may work on it together."""

    @property
    def folder(self) -> Path:
        """Where its result goes."""

    @property
    def marker(self) -> Path:
        """A file that exists once the step is done."""

    @property
    def needs(self) -> tuple[Any, ...]:
        """The steps whose results it reads."""

    @property
    def is_done(self) -> bool:
        """Whether its result is complete."""

    def run(self, runtime: Any) -> None:
        """Do the work."""


def identity(step: Step) -> str:
    """The name of a step in records, manifests and messages, unique under a root."""
    return f"{step.kind}-{step.key}"


def in_order(last: Iterable[Step]) -> list[Step]:
    """All steps that `last` depend on, and `last` themselves, each once and after everything that it needs.

    The order is depth first: a point's whole chain comes before the next point's, as one reads it in a preview.
    graphlib.TopologicalSorter cannot give this order, since it goes through a graph generation by generation.
    """
    ordered: dict[str, Step] = {}

    def visit(step: Step) -> None:
        if identity(step) not in ordered:
            for needed in step.needs:
                visit(needed)
            ordered[identity(step)] = step

    for step in last:
        visit(step)
    return list(ordered.values())


@dataclass(frozen=True)
class Batch:
    """Steps that one call of sbatch submits: an array, or a single step."""

    steps: tuple[Step, ...]

    @property
    def kind(self) -> str:
        """The kind of the first step, which the resources of all are taken from."""
        return self.steps[0].kind

    @property
    def name(self) -> str:
        """Readable in squeue, and the same for the same steps under the same root. Letters and digits that all take."""
        text = " ".join(f"{identity(step)}@{step.folder.absolute()}" for step in self.steps)
        label = re.sub(r"[^A-Za-z0-9_.+-]", "-", self.steps[0].label)[:LONGEST_LABEL]
        return f"ng-{self.kind}-{label}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def needs(self) -> list[Step]:
        """What its steps need, each once."""
        return list({identity(needed): needed for step in self.steps for needed in step.needs}.values())


def batches(steps: Sequence[Step], max_array: int) -> list[Batch]:
    """Group ordered steps into batches of at most `max_array`; the batches are ordered in the same way."""
    groups: dict[str, list[Step]] = {}
    for step in steps:
        groups.setdefault(step.array or identity(step), []).append(step)
    return [
        Batch(tuple(group[start : start + max_array]))
        for group in groups.values()
        for start in range(0, len(group), max_array)
    ]
