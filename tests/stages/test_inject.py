"""Stage 1 says where it has ended too early."""

from __future__ import annotations

import re

import pytest

from neurogen.study.execution import in_order, run_here
from neurogen.study.graph import steps_of
from neurogen.training.runtime import runtime_here
from tests.conftest import Composed


def said(experiment: Composed, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """What stage 1 says of its end."""
    tune = steps_of([experiment("recipe.inject.steps=2", *words)]).evaluations[0].tune
    assert tune.start is not None
    run_here(in_order(tune.start), runtime_here("cpu", 1))
    return [line for line in capsys.readouterr().out.splitlines() if "not at its end" in line]


def test_a_stage_1_that_ends_too_early_says_what_it_lacks(
    experiment: Composed, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = said(experiment, capsys)
    figures = re.fullmatch(
        r"  stage 1 is not at its end: its networks reach ([\d.]+) % on validation, the mean of the zoo ([\d.]+) %; "
        r"its loss is ([\d.]+), and ([\d.]+) of it is the variance within the zoo. More steps may help: "
        r"recipe.inject.steps \(now 2\)",
        line,
    )
    assert figures is not None, line
    generated, mean, loss, floor = map(float, figures.groups())
    assert generated < mean - 5
    assert 0 < floor < loss


def test_nothing_is_said_where_the_mean_of_the_zoo_is_no_better(
    experiment: Composed, capsys: pytest.CaptureFixture[str]
) -> None:
    """Independent networks, hardly trained: their mean guesses, and so do the first generated ones."""
    assert said(experiment, capsys, "zoo.init=independent", "zoo.training.epochs=1", "zoo.training.lr=1e-6") == []
