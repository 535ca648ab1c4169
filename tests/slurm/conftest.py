"""A real SLURM for the tests in this folder: slurm/lab, two nodes on this machine. Skipped, with the reason, where it
cannot run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurm.lab.lab import Lab
from tests.conftest import TINY

NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")
REPOSITORY = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slurm)
            item.add_marker(pytest.mark.xdist_group("slurm"))  # one cluster, so one worker


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The running cluster; SLURM_CONF is set while it lives."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if "NEUROGEN_LAB" not in os.environ:
        pytest.skip("it takes a quarter of an hour; `make test-slurm` runs it")
    if os.geteuid() != 0:
        pytest.skip("a SLURM of our own needs root")
    if missing:
        pytest.skip(f"SLURM is not installed ({', '.join(missing)} missing); `slurm/lab/lab.py install` does it")
    cluster = Lab(tmp_path_factory.mktemp("lab"), nodes=2)
    cluster.start()
    os.environ.update(cluster.environment)
    yield cluster
    for name in cluster.environment:
        del os.environ[name]
    cluster.stop()


Sweep = Callable[..., "subprocess.CompletedProcess[str]"]

# What the lab's nodes can give; its GPUs are fake, so nothing asks for one.
SMALL = [
    *TINY,
    "hydra/launcher=slurm",
    "cluster=here",
    "cluster.array_parallelism=4",
    "cluster.steps.default.mem_gb=1.5",
    "cluster.steps.default.timeout_min=10",
]


@pytest.fixture
def sweep(lab: Lab, tmp_path: Path) -> Sweep:
    """sweep("key=a,b", …) → the finished `python -m neurogen.run -m …` on the lab, under a root of its own."""

    def submitted(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "neurogen.run", "-m", *SMALL, f"root={tmp_path}/runs", *arguments],
            cwd=REPOSITORY,
            env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return submitted


def wait_for(what: str, ready: Callable[[], object], patience_s: float = 300) -> None:
    deadline = time.monotonic() + patience_s
    while not ready():
        if time.monotonic() > deadline:
            queue = subprocess.run(["squeue", "--all"], capture_output=True, text=True, check=False).stdout
            pytest.fail(f"waited {patience_s:.0f} s for {what}\n{queue}")
        time.sleep(0.5)
