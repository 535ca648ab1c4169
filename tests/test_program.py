"""Steps as plain values, and back: what a job reads."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neurogen import program
from neurogen.errors import UserError
from neurogen.inputs import Inputs
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from tests.conftest import TINY_TEXT, tiny

Change = Callable[[dict[str, Any]], object]


def described(*words: str) -> tuple[list[Any], Any]:
    """All steps of an experiment, and what their description is after its way through a file."""
    steps = in_order(steps_of([tiny(Path("nowhere"), *words)]))
    return steps, as_json(program.describe(steps))


def as_json(values: dict[str, Any]) -> Any:
    """What another process reads; a check without the launcher takes the values as they are."""
    assert not unplain(values)
    return json.loads(json.dumps(values))


def unplain(value: Any) -> list[Any]:
    """What JSON would silently make something else of, such as a member of an enum."""
    if type(value) is dict:
        return [bad for item in (*value.keys(), *value.values()) for bad in unplain(item)]
    if type(value) in (list, tuple):
        return [bad for item in value for bad in unplain(item)]
    return [] if type(value) in (str, int, float, bool, type(None)) else [value]


@pytest.mark.parametrize(
    "words",
    [
        [],
        TINY_TEXT,
        ["target@source=cnn", "recipe.tune.anchor=0"],
        ["recipe.inject.steps=0", "recipe.tune.anchor=0", "generator.scale=fan_in"],
        ["dataset.relabel=random", "generator.order=interleaved", "generator.context_warmup=1"],
    ],
)
def test_steps_of_every_kind_are_what_they_were(words: list[str]) -> None:
    steps, description = described(*words)
    for index, step in enumerate(steps):
        again = program.step_from(description, index)
        assert (again, again.key, again.folder) == (step, step.key, step.folder)
    inputs = program.inputs_of(steps[-1])
    assert program.inputs_from(inputs) == program.inputs_from(as_json(inputs)) == Inputs.of(steps[-1])


def fields_of(description: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(fields for name, fields in description["steps"].items() if name.startswith(kind))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: fields_of(d, "tune").update(seed=1), "the description of tune-.* is that of tune-"),
        (
            lambda d: fields_of(d, "classical")["task"]["target"].update(build="os.system"),
            "the description of classical-",
        ),
        (lambda d: fields_of(d, "tune").update(seed="0"), "not described as this code does it"),
        (lambda d: fields_of(d, "tune").update(more=1), "not described as this code does it"),
        (lambda d: fields_of(d, "tune").pop("seed"), "not described as this code does it"),
        (lambda d: d["steps"].pop(d["asked"][0]), "not described as this code does it"),
        (lambda d: d["asked"].__setitem__(-1, "system-0123456789ab"), "not described as this code does it"),
        (lambda d: d["asked"].clear(), "not described as this code does it"),
    ],
)
def test_a_changed_description_is_refused(change: Change, message: str) -> None:
    steps, description = described()
    change(description)
    with pytest.raises(UserError, match=message):
        program.step_from(description, len(steps) - 1)


@pytest.mark.parametrize("given", [{}, [], None, "x", pickle.dumps({}).decode("latin1")])
def test_what_is_no_description_is_refused(given: Any) -> None:
    with pytest.raises(UserError, match="not described as this code does it"):
        program.step_from(given, 0)
    with pytest.raises(UserError, match="not described as this code does it"):
        program.read_inputs(given)
