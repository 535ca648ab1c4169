"""Shapes in signatures are checked while the tests run; small experiments for all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

SHAPED = ("data.dataset", "data.preparation", "targets", "generator", "stages")
install_import_hook([f"neurogen.{name}" for name in SHAPED], "beartype.beartype")

import torch  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402

from neurogen.config import Experiment  # noqa: E402
from neurogen.experiment import experiment_from  # noqa: E402
from neurogen.run import conf_folder  # noqa: E402
from neurogen.training.runtime import Runtime, runtime_here  # noqa: E402

# A whole experiment in seconds: a random Llama of two layers, 8×8 digits, a handful of steps.
TINY = [
    "dataset=digits",
    "target=cnn_small",
    "backbone=tiny_llama",
    "zoo.num_networks=3",
    "zoo.training.epochs=3",
    "classical.num_networks=2",
    "classical.training.epochs=3",
    "recipe.inject.steps=8",
    "recipe.tune.steps=8",
    "recipe.tune.batch_size=128",
    "evaluate.num_contexts=2",
    "checkpoint_every=2",
    "device=cpu",
    "num_threads=1",
]


# The same with texts; its tokens are bytes, so a little of every text is enough.
TINY_TEXT = [
    *TINY,
    "dataset=rotten_tomatoes",
    "target=mlp",
    "dataset.limit=600",
    "dataset.text.max_tokens=24",
    "dataset.text.embedding_dim=16",
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tests run side by side (pytest-xdist), each on one core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def runtime() -> Runtime:
    return runtime_here("cpu", 1)


@pytest.fixture
def experiment(tmp_path: Path) -> Callable[..., Experiment]:
    """experiment("key=value", …) → the tiny experiment with these changes."""

    def composed(*overrides: str) -> Experiment:
        with initialize_config_dir(conf_folder(), version_base="1.3"):
            return experiment_from(compose("config", [*TINY, f"root={tmp_path}/runs", *overrides]))

    return composed


Program = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """program("run", "key=value", …) → the finished `python -m neurogen.run key=value …`, in a folder of its own."""

    def finished(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", f"neurogen.{module}", *arguments],
            cwd=tmp_path,
            env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return finished


def error_line(process: subprocess.CompletedProcess[str]) -> str:
    """The one line that a refused command prints; fails where there is more, less, or a traceback."""
    assert process.returncode == 1, process.stdout + process.stderr
    assert "Traceback" not in process.stderr
    *before, last = process.stderr.splitlines()
    assert last.startswith("error: ")
    assert all(line.startswith("  ") for line in before), process.stderr  # progress of what was done before
    return last
