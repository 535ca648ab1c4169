"""What finished steps took, for steps to come that are like them.

in:  a step of a study, and the finished steps under its root
out: the seconds that it will take; None where nothing like it has been done there

Steps are alike where a unit of their work is the same: an epoch of one network, an optimiser step of a stage, a context
of an evaluation. They may differ in seeds and in how many units they do.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from neurogen import store
from neurogen.config import StepKind, ZooInit
from neurogen.study.step import Step, plain

# What changes the time of a unit, by kind: keys of a step's config.json, and of its parts.
DATA = ("name", "limit", "resize", "parts.name", "text.max_tokens", "relabel", "ways")
TASK = (*(f"dataset.{key}" for key in DATA), "target.name", "target.options")
STAGE = ("backbone", "generator", "stage.contexts_per_step", "stage.batch_size")
EVALUATE = ("evaluate.recalibrate", "evaluate.sentence_encoder", "few_shot.shots")
DECISIVE: Mapping[StepKind, tuple[str, ...]] = {
    StepKind.embed: (*(f"dataset.{key}" for key in DATA), "model"),
    StepKind.reference: (*(f"task.{key}" for key in TASK), "training.batch_size", "few_shot.episodes"),
    StepKind.classical: (*(f"task.{key}" for key in TASK), "classical.training.batch_size"),
    StepKind.inject: (*(f"zoos.task.{key}" for key in TASK), *STAGE),
    StepKind.tune: (*(f"tasks.{key}" for key in TASK), *STAGE),
    StepKind.evaluate: (*(f"zoo.task.{key}" for key in TASK), *EVALUATE),
}


class Measured:
    """The finished steps under a root."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def rates(self) -> dict[str, float]:
        """Seconds per unit of work, by what makes steps alike.

        Raises UserError for a finished step whose files cannot be read.
        """
        steps: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for kind in DECISIVE:
            for marker in sorted(self.root.glob(f"{kind}/*/{store.DONE}")):
                about, metrics = (store.read_json(marker.parent / name) for name in ("config.json", "metrics.json"))
                label = marker.parent.name.rpartition("-")[0]
                steps[alike(kind, label, about)].append((units(kind, about, metrics), metrics["seconds"]))
        return {key: sum(s for _, s in done) / sum(u for u, _ in done) for key, done in steps.items()}

    def rate(self, step: Step) -> float | None:
        """Seconds per unit of work of steps like this one."""
        about = json.loads(json.dumps(plain(step, identity=False)))
        return self.rates.get(alike(step.kind, step.label, about))


def alike(kind: StepKind, label: str, about: Mapping[str, Any]) -> str:
    """Equal for steps whose units of work are the same. `about` is what config.json says; the label names the tasks
    and, of a stage or an evaluation, the backbone."""
    return json.dumps([kind, label, *(_value(about, key) for key in DECISIVE[kind])], sort_keys=True)


def units(kind: StepKind, about: Mapping[str, Any], metrics: Mapping[str, Any]) -> float:
    """How much work a finished step has done."""
    if kind == StepKind.reference:
        shared = about["shared_epochs"] if about["init"] == ZooInit.shared else 0
        return float(shared + about["num_networks"] * about["training"]["epochs"])
    if kind == StepKind.classical:
        return float(about["classical"]["num_networks"] * about["classical"]["training"]["epochs"])
    if kind in (StepKind.inject, StepKind.tune):
        return float(max(1, metrics["history"][-1]["step"]))
    return float(about["evaluate"]["num_contexts"]) if kind == StepKind.evaluate else 1.0


def _value(about: Any, key: str) -> Any:
    """The value of a dotted key, of a list that of every item; None where there is none."""
    if not key:
        return about
    if isinstance(about, list):
        return [_value(item, key) for item in about]
    name, _, rest = key.partition(".")
    return _value(about.get(name), rest) if isinstance(about, Mapping) else None
