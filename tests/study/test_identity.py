"""Every field of the config either changes what is computed, and then the identity of the result, or neither."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

import pytest

from neurogen.config import Experiment
from neurogen.experiment import experiment_from
from neurogen.study.graph import steps_of
from tests.conftest import Composed

# What these say changes the name, the place, the machine or the amount of work, but no result.
WITHOUT_EFFECT = {
    *("name", "study_name", "variant", "root", "device", "num_threads", "batch_tokens", "deterministic", "dry_run"),
    *("checkpoint_minutes", "checkpoint_every"),
    *("fetch", "site_check", "stop_after"),
    *("only", "part", "num_parts", "gpu", "cluster", "zero"),
    "dataset.path",  # the files count, not their place
    "dataset.size",  # what dry_run takes for granted
    "backbone.gradient_checkpointing",
    "backbone.random_on_device",  # of random weights, which are for timing
    "recipe.adapt",  # only of held-out tasks
}
# What has an effect only beside other settings, or must name something that is there.
ELSEWHERE = {
    *("tasks", "held_out", "zoo.shared_epochs", "dataset.load", "target.build", "backbone.model"),
    *("source", "few_shot", "dataset.text", "dataset.parts", "backbone.package"),
    "zoo.chunk_size",  # which step trains a network, not how
}


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(key, type, value) of all fields that are no dataclass, except below those without effect."""
    types = get_type_hints(type(value))
    for item in fields(value):
        key, member = f"{prefix}{item.name}", getattr(value, item.name)
        if is_dataclass(member) and key not in WITHOUT_EFFECT:
            yield from leaves(member, f"{key}.")
        else:
            yield key, types[item.name], member


def other(kind: Any, value: Any) -> Any:
    """Another value of the same type."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    enum = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, StrEnum)), None)
    if enum is not None:
        return next(member for member in enum if member != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, list):
        return [*value, "x"]
    if isinstance(value, dict):
        return {**value, "x": 1}
    return 1 if int in kinds or float in kinds else "x"


def changed(value: Any, key: str, new: Any) -> Any:
    """The dataclass with another value at `key`."""
    name, _, rest = key.partition(".")
    return replace(value, **{name: changed(getattr(value, name), rest, new) if rest else new})


@pytest.fixture(scope="module")
def image(shared_experiment: Composed) -> Experiment:
    return shared_experiment("zoo.init=independent")


@pytest.fixture(scope="module")
def text(shared_experiment: Composed) -> Experiment:
    return shared_experiment("dataset=rotten_tomatoes", "target=mlp")


def key_of(experiment: Experiment) -> str:
    return steps_of([experiment]).evaluations[0].key


@pytest.mark.parametrize("data", ["image", "text"])
def test_every_field_counts_or_is_known_not_to(data: str, request: pytest.FixtureRequest) -> None:
    experiment: Experiment = request.getfixturevalue(data)
    before, wrong = key_of(experiment), []
    for key, kind, value in leaves(experiment):
        if key not in ELSEWHERE:
            has_effect = key_of(changed(experiment, key, other(kind, value))) != before
            if has_effect == (key in WITHOUT_EFFECT):
                wrong.append(key)
    assert wrong == []


def test_the_fields_that_must_name_something(image: Experiment) -> None:
    for key, new in (("dataset.load", "mnist5k"), ("target.build", "lenet"), ("backbone.model", "OWNER/NAME")):
        assert key_of(changed(image, key, new)) != key_of(image)
    shared = changed(image, "zoo.init", "shared")
    assert key_of(changed(shared, "zoo.shared_epochs", 7)) != key_of(shared)


def test_the_code_of_own_functions_counts(image: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for key, name in (("dataset.load", "own_data"), ("target.build", "own_target")):
        path = tmp_path / f"{name}.py"
        experiment = changed(image, key, f"{name}.make")
        keys = []
        for text in ("def make(x): return 1", "def make(x): return 2", "def make(x): return 2  # two"):
            path.write_text(text)
            keys.append(key_of(experiment))
        assert keys[0] != keys[1] == keys[2]
        section = key.partition(".")[0]
        versions = [changed(experiment, f"{section}.version", version) for version in ("1", "1", "2")]
        first = key_of(versions[0])
        path.write_text("def make(x): return 3")
        assert [key_of(version) == first for version in versions] == [True, True, False]


def test_experiments_that_are_composed_twice_are_equal(image: Experiment) -> None:
    assert key_of(experiment_from(_plain(image))) == key_of(image)


def _plain(experiment: Experiment) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.structured(experiment)
