"""What the cluster needs of a step, and how steps become batches: one batch is one sbatch call.

    steps, merged by identity ──► those that are missing ──► batches: arrays of like steps, every other step alone

A batch is named after its steps, so that the same work has the same name whoever submits it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class Step(Protocol):
    """A picklable piece of work that leaves its result in a folder."""

    @property
    def kind(self) -> str: ...  # what it does, as conf/cluster names its resources

    @property
    def key(self) -> str: ...  # equal steps have equal keys

    @property
    def label(self) -> str: ...  # for people

    @property
    def array(self) -> str | None: ...  # steps with the same one are submitted as one array; None: alone

    @property
    def shared(self) -> bool: ...  # whether the ranks of one job may work on it together

    @property
    def folder(self) -> Path: ...

    @property
    def marker(self) -> Path: ...  # a file that is there once the step is done

    @property
    def needs(self) -> tuple[Any, ...]: ...  # steps

    @property
    def is_done(self) -> bool: ...

    def run(self, runtime: Any) -> None: ...


def identity(step: Step) -> str:
    return f"{step.kind}-{step.key}"


def in_order(last: Iterable[Step]) -> list[Step]:
    """All steps that `last` hang on, themselves included, each once and after what it needs."""
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
    """Steps that one sbatch call submits: an array, or a single one."""

    steps: tuple[Step, ...]

    @property
    def kind(self) -> str:
        return self.steps[0].kind

    @property
    def name(self) -> str:
        """Unique to this work under this root, and readable in squeue."""
        first = self.steps[0]
        text = " ".join(f"{identity(step)}@{step.folder.absolute()}" for step in self.steps)
        return f"ng-{first.kind}-{first.label}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def needs(self) -> list[Step]:
        return list({identity(step): step for own in self.steps for step in own.needs}.values())


def batches(steps: Sequence[Step], max_array: int) -> list[Batch]:
    """`steps`, in an order in which every one comes after what it needs, as batches in such an order."""
    groups: dict[str, list[Step]] = {}
    for step in steps:
        groups.setdefault(step.array or identity(step), []).append(step)
    return [
        Batch(tuple(group[first : first + max_array]))
        for group in groups.values()
        for first in range(0, len(group), max_array)
    ]
