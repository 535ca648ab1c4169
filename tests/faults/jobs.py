"""The steps of a tiny experiment as jobs that a test runs by itself: python -m hpc PROGRAM BATCH INDEX.

in:  a root, the steps before which have been done
out: the words of the command that does one step; what a folder of a step holds that never differs between two runs
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpc.jobs.payload import Payload
from neurogen import program
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from tests.conftest import Composed
from tests.hpc.conftest import sweep_of

SHORT = (
    "zoo.num_networks=2",
    "zoo.training.epochs=2",
    "zoo.shared_epochs=1",
    "classical.num_networks=1",
    "classical.training.epochs=1",
    "recipe.inject.steps=3",
    "recipe.tune.steps=3",
    "checkpoint_every=1",
    "evaluate.num_contexts=1",
)
TIMES = ("seconds", "gpu_hours", "tokens_per_s", "step_s", "memory_gb", "root", "commits")  # and where it was made
# Notes below tables name times and the commit; their figures are in results.json and results.csv.
NOTED = (".md", ".tex")
VARYING = ("DONE", "environment.json", ".lock", "report.html", "costs.json")


@dataclass(frozen=True)
class Jobs:
    """All steps of an experiment as one batch."""

    root: Path
    steps: tuple[Any, ...]

    @staticmethod
    def of(experiment: Composed, root: Path) -> Jobs:
        """Written into the queue of the root."""
        composed = replace(experiment(*SHORT), root=str(root))
        steps = tuple(in_order(steps_of([composed])))
        sweep = replace(sweep_of(experiment, root), runtime=program.settings_of(composed))
        jobs = Jobs(root, steps)
        jobs.batch.mkdir(parents=True, exist_ok=True)
        Payload.of(sweep, steps, max_requeues=0).write(jobs.batch)
        return jobs

    @property
    def batch(self) -> Path:
        """The folder of the batch."""
        return self.root / "queue" / "batch"

    def step(self, kind: str) -> Any:
        """The step of this kind."""
        (step,) = (step for step in self.steps if step.kind == kind)
        return step

    def words(self, kind: str) -> list[str]:
        """The command that does the step of this kind."""
        return ["hpc", program.NAME, str(self.batch), str(self.steps.index(self.step(kind)))]


def content_of(root: Path, left_out: Path | None = None) -> dict[str, Any]:
    """By its path below the root, what every file of finished steps holds; without times and TensorBoard's events.

    Of checkpoints only the last counts: one that was written because of a stop may stand before it.
    """
    content = {}
    earlier = {path for folder in root.glob("*/*/checkpoints") for path in sorted(folder.glob("step-*"))[:-1]}
    for path in (path for done in sorted(root.glob("*/*/DONE")) for path in done.parent.rglob("*") if path.is_file()):
        if path.name in VARYING or "tfevents" in path.name or path.suffix in NOTED:
            continue
        if path != left_out and path not in earlier:
            is_plain = path.suffix in (".json", ".jsonl")
            lines = [_timeless(json.loads(line)) for line in _values(path)] if is_plain else path.read_bytes()
            content[str(path.relative_to(root))] = lines
    return content


def differences(content: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The files that differ between two roots, or that only one of them has."""
    return sorted(name for name in content.keys() | other.keys() if content.get(name) != other.get(name))


def _values(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return text.splitlines() if path.suffix == ".jsonl" else [text]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(item) for name, item in value.items() if name not in TIMES}
    return [_timeless(item) for item in value] if isinstance(value, list) else value
