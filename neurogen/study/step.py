"""A step: a piece of work that leaves its result in a folder.

in:  its fields (configs, and the steps that it needs), the finished folders of those steps
out: its folder, root/KIND/LABEL-KEY, with config.json, environment.json, metrics.json and, written last, DONE

Its identity, the key, is the hash of what determines its result: its fields, the identities of the steps that it needs,
and the version of its kind. A step that is done is never done again. It needs no torch until it runs.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import time
from abc import ABC
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from neurogen import store
from neurogen.config import IF_SET, StepKind
from neurogen.environment import environment
from neurogen.errors import saying_what_saves_memory

if TYPE_CHECKING:
    from neurogen.downloads.repository import Repository
    from neurogen.training.runtime import Runtime

SCALARS = (str, int, float, type(None))  # asked for first: most values are, and large sweeps have many


@dataclass(frozen=True)
class Step(ABC):
    """A step of some kind; the fields of a subclass are what determines its result."""

    kind: ClassVar[StepKind]
    version: ClassVar[int]  # raise it when the code changes what the step computes
    runs: ClassVar[str]  # the function (step, runtime) → metrics that does the work in `folder`
    shared: ClassVar[bool] = False  # whether the ranks of a job may work on it together
    to_save_memory: ClassVar[str] = "lower dataset.limit or dataset.resize"

    root: str = field(metadata={"identity": False})

    @cached_property
    def needs(self) -> tuple[Step, ...]:
        """The steps in its fields, whose results it reads."""
        return tuple(step for item in fields(self) for step in _steps_in(getattr(self, item.name)))

    @cached_property
    def key(self) -> str:
        """Its identity, 12 hexadecimal digits."""
        text = json.dumps([self.kind, self.version, plain(self, identity=True)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        """The readable part of the folder's name."""
        return self.kind

    @property
    def array(self) -> str | None:
        """Steps with the same value may be submitted as one array of jobs; None: alone."""
        return None

    @property
    def repositories(self) -> tuple[Repository, ...]:
        """What it reads of the Hugging Face Hub."""
        return ()

    def revisions(self) -> dict[str, str | None]:
        """The commits of these repositories that are here, by their names."""
        return {repository.name: repository.revision for repository in self.repositories}

    @property
    def folder(self) -> Path:
        """Where its result is."""
        return Path(self.root) / self.kind / f"{self.label}-{self.key}"

    @property
    def marker(self) -> Path:
        """The file that says that it is done."""
        return self.folder / store.DONE

    @property
    def is_done(self) -> bool:
        """Whether its result is there, whole."""
        return store.is_done(self.folder)

    def metrics(self) -> dict[str, Any]:
        """What the finished step measured."""
        return self._read("metrics.json")

    def environment(self) -> dict[str, Any]:
        """What the finished step ran on."""
        return self._read("environment.json")

    def _read(self, name: str) -> dict[str, Any]:
        content = store.read_json(self.folder / name)
        assert isinstance(content, dict)
        return content

    def run(self, runtime: Runtime) -> None:
        """Do the work unless it is done: one process at a time, or the ranks of one job, of which the first writes.

        Raises UserError as the work does, and with what to change where there is not enough memory for it.
        """
        from neurogen.training.memory import reset_peak_memory

        with store.exclusive(self.folder, runtime.stop) if runtime.is_first else nullcontext():
            if runtime.ranks.broadcast(self.is_done):
                return
            if runtime.is_first:
                store.mark_root(Path(self.root))
                store.remove_temporaries(self.folder)
                about = {"kind": self.kind, "key": self.key, **plain(self, identity=False)}
                store.write_json(self.folder / "config.json", about)
                ran_on = environment(runtime.device, runtime.dtype)
                ran_on |= {"ranks": runtime.ranks.size, "deterministic": runtime.numerics.deterministic}
                store.write_json(self.folder / "environment.json", ran_on | {"revisions": self.revisions()})
            module, function = self.runs.split(":")
            reset_peak_memory(runtime.device)
            started = time.monotonic()
            with runtime.numerics.applied(), saying_what_saves_memory(f"{self.kind} {self.label}", self.to_save_memory):
                metrics = getattr(importlib.import_module(module), function)(self, runtime)
            seconds = time.monotonic() - started
            if runtime.is_first:
                if self.repositories:  # the work may have brought them
                    store.write_json(self.folder / "environment.json", ran_on | {"revisions": self.revisions()})
                cost = {"seconds": seconds, "gpu_hours": seconds / 3600 * runtime.num_gpus}
                store.write_json(self.folder / "metrics.json", {**metrics, **cost})
                store.mark_done(self.folder)
            runtime.ranks.barrier()  # no rank leaves before it is done


def _steps_in(value: Any) -> list[Step]:
    """The steps in a field that is a step, or a tuple or dataclass with steps in it."""
    if isinstance(value, SCALARS):
        return []
    if isinstance(value, Step):
        return [value]
    if is_dataclass(value):
        kind: Any = type(value)
        value = tuple(getattr(value, name) for name, _ in _rules(kind, False))
    return [step for item in value for step in _steps_in(item)] if isinstance(value, tuple) else []


def name_of(step: Step) -> str:
    """KIND-KEY, which no other step has."""
    return f"{step.kind}-{step.key}"


def plain(config: Any, identity: bool) -> dict[str, Any]:
    """A dataclass as JSON can hold it, with keys instead of steps; with `identity` only what determines a result."""

    def of(value: Any) -> Any:
        if isinstance(value, SCALARS):
            return value
        if isinstance(value, Step):
            return name_of(value)
        if isinstance(value, tuple):
            return [of(item) for item in value]
        if isinstance(value, list):
            return [of(item) for item in value]
        if isinstance(value, dict):
            return {name: of(item) for name, item in value.items()}
        return plain(value, identity) if is_dataclass(value) else value

    kind: Any = type(config)
    values = {name: (getattr(config, name), rule) for name, rule in _rules(kind, identity)}
    return {name: of(value) for name, (value, rule) in values.items() if rule != IF_SET or value not in (None, [], {})}


@cache
def _rules(kind: Any, identity: bool) -> tuple[tuple[str, Any], ...]:
    """The fields that count, each with its rule: True, or IF_SET."""
    if not identity:
        return tuple((item.name, True) for item in fields(kind))
    rules = {item.name: item.metadata.get("identity", True) for item in fields(kind)}
    return tuple((name, rule) for name, rule in rules.items() if rule)


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested dictionaries as pairs of dotted key and value."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
