"""Finished runs that all tests of the Python face share: tiny ones, trained once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

import neurogen
from neurogen.experiment import experiment_from
from neurogen.run import conf_folder
from neurogen.study.execution import in_order, run_here
from neurogen.study.graph import steps_of
from neurogen.study.pipeline import Evaluate
from neurogen.training.runtime import runtime_here
from tests.conftest import TINY, TINY_TEXT


def finished(words: list[str], root: Path) -> Evaluate:
    """The evaluation of an experiment, after all its steps."""
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        experiment = experiment_from(compose("config", [*words, f"root={root}"]))
    last = steps_of([experiment])
    run_here(in_order(last.evaluations[0]), runtime_here("cpu", 1))
    return last.evaluations[0]


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Evaluate:
    """Digits and a small CNN."""
    return finished([*TINY, "recipe.tune.steps=30"], tmp_path_factory.mktemp("images") / "runs")


@pytest.fixture(scope="session")
def generator(images: Evaluate) -> neurogen.LoadedGenerator:
    """The generator of these networks, loaded."""
    return neurogen.load(images.tune.folder, device="cpu")


@pytest.fixture(scope="session")
def text_generator(texts: Evaluate) -> neurogen.LoadedGenerator:
    """The generator of networks for film reviews, loaded."""
    return neurogen.load(texts.tune.folder, device="cpu")


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Evaluate:
    """Film reviews and an MLP."""
    return finished(TINY_TEXT, tmp_path_factory.mktemp("texts") / "runs")
