"""Finished runs that all tests of the Python face share: tiny ones, trained once."""

from __future__ import annotations

import pytest

import neurogen
from neurogen.config import Experiment
from neurogen.study.execution import in_order, run_here
from neurogen.study.graph import steps_of
from neurogen.study.pipeline import Evaluate
from neurogen.training.runtime import runtime_here
from tests.conftest import TINY_TEXT, Composed


def finished(experiment: Experiment) -> Evaluate:
    """The evaluation of an experiment, after all its steps."""
    last = steps_of([experiment])
    run_here(in_order(last.evaluations[0]), runtime_here("cpu", 1))
    return last.evaluations[0]


@pytest.fixture(scope="session")
def images(shared_experiment: Composed) -> Evaluate:
    """Digits and a small CNN."""
    return finished(shared_experiment("recipe.tune.steps=30"))


@pytest.fixture(scope="session")
def generator(images: Evaluate) -> neurogen.LoadedGenerator:
    """The generator of these networks, loaded."""
    return neurogen.load(images.tune.folder, device="cpu")


@pytest.fixture(scope="session")
def text_generator(texts: Evaluate) -> neurogen.LoadedGenerator:
    """The generator of networks for film reviews, loaded."""
    return neurogen.load(texts.tune.folder, device="cpu")


@pytest.fixture(scope="session")
def texts(shared_experiment: Composed) -> Evaluate:
    """Film reviews and an MLP."""
    return finished(shared_experiment(*TINY_TEXT))
