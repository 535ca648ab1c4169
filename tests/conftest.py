"""Shapes in signatures are checked while the tests run; small experiments for all tests, and programs to run them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before the libraries that read it while they are imported

import pytest
from filelock import FileLock
from jaxtyping import install_import_hook

SHAPED = ("data.dataset", "data.preparation", "targets", "generator", "stages")
install_import_hook([f"neurogen.{name}" for name in SHAPED], "beartype.beartype")

import torch  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402

import neurogen.run  # noqa: E402, F401  (it registers the functions that conf/ calls)
from neurogen.choices import conf_folder  # noqa: E402
from neurogen.config import Experiment  # noqa: E402
from neurogen.experiment import experiment_from  # noqa: E402
from neurogen.training.runtime import Runtime, runtime_here  # noqa: E402
from tests.programs import Forked, run_forked, run_new  # noqa: E402

# A whole experiment in seconds: a random Llama of two layers, 8×8 digits, a handful of steps.
TINY = [
    "dataset=digits",
    "target=cnn_small",
    "backbone=tiny_llama",
    "zoo.num_networks=3",
    "zoo.shared_epochs=5",
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


@cache
def _composed(*overrides: str) -> Experiment:
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        return experiment_from(compose("config", [*TINY, *overrides]))


def tiny(root: Path, *overrides: str) -> Experiment:
    """The tiny experiment with these changes; its steps write into `root`, unless a change is another one."""
    experiment = _composed(*overrides)
    return experiment if any(word.startswith("root=") for word in overrides) else replace(experiment, root=str(root))


LONGEST_FIRST = ("end_to_end", "hpc", "api", "generator")  # folders


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first, so that at the end no process waits for one that began last."""
    items.sort(key=lambda item: [folder not in item.path.parts for folder in LONGEST_FIRST])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tests run side by side (pytest-xdist), each on one core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def runtime() -> Runtime:
    """This process on the CPU, with one thread."""
    return runtime_here("cpu", 1)


Composed = Callable[..., Experiment]


@pytest.fixture
def experiment(tmp_path: Path) -> Composed:
    """experiment("key=value", …) → the tiny experiment with these changes, in a root of the test's own."""
    return partial(tiny, tmp_path / "runs")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all tests of this session share, whichever process of pytest-xdist runs them."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def shared_experiment(shared: Path) -> Composed:
    """As `experiment`, in one root for all tests: a step that one test has run is done for the others.

    For tests that only read what steps leave. A test that changes files of a step takes `experiment`.
    """
    return partial(tiny, shared / "runs")


Program = Callable[..., "subprocess.CompletedProcess[str]"]
Run = Callable[[list[str], Path, Mapping[str, str]], "subprocess.CompletedProcess[str]"]
StartProgram = Callable[..., Forked]


@pytest.fixture
def start_program(tmp_path: Path) -> StartProgram:
    """start_program("run", "key=value", …, NAME=value) → `python -m neurogen.run key=value …`, begun in `tmp_path`."""

    def start(module: str, *arguments: str, **environment: str) -> Forked:
        return Forked([f"neurogen.{module}", *arguments], tmp_path, os.environ | environment)

    return start


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """As `start_program`, and waits for its end."""

    def run(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return run_forked([f"neurogen.{module}", *arguments], tmp_path, os.environ | environment)

    return run


@pytest.fixture
def new_program(tmp_path: Path) -> Program:
    """As `program`, in a new interpreter: for variables that libraries read while they are imported."""

    def run(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return run_new([f"neurogen.{module}", *arguments], tmp_path, os.environ | environment)

    return run


@dataclass(frozen=True)
class FinishedRun:
    """A command that ran from nothing to its table."""

    folder: Path  # where it was typed; its steps are in runs/
    stdout: str

    @property
    def table(self) -> str:
        """What the same command prints again: all but the progress of its steps."""
        return self.stdout[self.stdout.index("\ndigits") :]

    def step(self, kind: str) -> Path:
        """The folder of its only step of this kind."""
        return folders(self.folder / "runs")[kind]


def finished_run(folder: Path, name: str, words: list[str], run: Run = run_forked) -> FinishedRun:
    """`python -m neurogen.run WORDS`, typed in `folder`; run by the first process that asks for it under this name."""
    folder.mkdir(exist_ok=True)
    output = folder / f"{name}.stdout"
    with FileLock(folder / f"{name}.lock"):
        if not output.exists():
            process = run(["neurogen.run", *words], folder, os.environ)
            assert process.returncode == 0, process.stderr
            output.write_text(process.stdout, encoding="utf-8")
    return FinishedRun(folder, output.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def tiny_run(shared: Path) -> FinishedRun:
    """A run of TINY as a user starts it, in a new interpreter. Tests that change something copy it."""
    return finished_run(shared / "tiny", "tiny", TINY, run_new)


# Secrets in the environment of real runs, of which no file may have a trace.
PLANTED = {"HF_TOKEN": "hf_" + "Planted" * 5, "WANDB_API_KEY": "planted-key-7f3a", "MY_PASSWORD": "planted password"}


def files_with_secrets(folder: Path) -> list[Path]:
    """The files below a folder that hold one of these; fails where there are no files."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    secrets = [value.encode() for value in PLANTED.values()]
    return [path for path in files if any(secret in path.read_bytes() for secret in secrets)]


def folders(root: Path) -> dict[str, Path]:
    """The folder of the only step of every kind."""
    return {path.parent.name: path for path in root.glob("*/*") if path.is_dir()}


def error_line(process: subprocess.CompletedProcess[str]) -> str:
    """The one line that a refused command prints; fails where there is more, less, or a traceback."""
    assert process.returncode == 1, process.stdout + process.stderr
    assert "Traceback" not in process.stderr
    *before, last = process.stderr.splitlines()
    assert last.startswith("error: ")
    assert all(line.startswith("  ") for line in before), process.stderr  # progress of what was done before
    return last
