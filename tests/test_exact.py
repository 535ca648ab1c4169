"""Plain values that have the types of the config already."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from neurogen.config import Experiment
from neurogen.config.exact import exactly
from tests.conftest import Composed


def plain_of(experiment: Experiment) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(asdict(experiment)))
    return values


def test_an_experiment_is_made_of_its_own_values(experiment: Composed) -> None:
    made = experiment("only=[tune]")
    assert exactly(Experiment, plain_of(made)) == made


@pytest.mark.parametrize(
    "other",
    [{"seed": "1"}, {"seed": True}, {"seed": 1.0}, {"dry_run": 1}, {"name": 5}, {"name": None}, {"tasks": "apart"},
     {"only": "tune"}, {"only": ["nothing"]}, {"zoo": None}, {"zoo": {}}, {"cluster": {1: 2}}, {"nothing": 1}],
)  # fmt: skip
def test_what_needs_a_conversion_or_is_wrong_is_left_to_omegaconf(experiment: Composed, other: dict[str, Any]) -> None:
    assert exactly(Experiment, plain_of(experiment()) | other) is None


def test_a_whole_number_is_a_number(experiment: Composed) -> None:
    values = plain_of(experiment())
    values["zoo"]["training"]["lr"] = 1
    made = exactly(Experiment, values)
    assert made is not None
    assert type(made.zoo.training.lr) is float
