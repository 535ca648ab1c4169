"""A sweep on nodes that reach nothing outside: everything is fetched where it is submitted.

Every node has a network of its own, from which it reaches this machine at one address and nothing else. The servers
listen at 127.0.0.1, which only the submitting side sees.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.lab.lab import Lab
from tests.outside import language_model, outside, published, serving, text_dataset
from tests.outside.web import Web
from tests.slurm.conftest import SMALL, done, results, wait_for

ANY_PORT = "1-1"  # blocking it puts a node into a network of its own


@pytest.fixture
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A cluster whose nodes are cut off."""
    if os.geteuid() != 0:
        pytest.skip("a SLURM of our own needs root")
    cluster = Lab(tmp_path / "lab", nodes=2, blocked={"n1": ANY_PORT, "n2": ANY_PORT})
    if cluster.missing:
        pytest.skip(f"{', '.join(cluster.missing)} not installed; run `slurm/lab/lab.py install` first")
    cluster.start()
    for name, value in {**cluster.environment, "NEUROGEN_POLL_S": "1"}.items():
        monkeypatch.setenv(name, value)
    yield cluster
    cluster.stop()


@pytest.fixture
def web() -> Iterator[Web]:
    """The outside: mirrors of three image datasets, a model and a text dataset of the Hub."""
    with serving() as server:
        server.files |= published().files
        server.hub |= {"lab/tiny": language_model(), "datasets/stanfordnlp/sst2": text_dataset()}
        yield server


def test_from_an_empty_cache_to_the_table_without_a_network_on_the_nodes(
    isolated: Lab, web: Web, tmp_path: Path
) -> None:
    """The user's command with four datasets and a model; the jobs' own Python says what a node can reach."""
    environment = outside(web, tmp_path / "outside", published())
    small = [word for word in SMALL if not word.startswith(("dataset=", "target=", "backbone=", "site_check="))]
    words = [
        "dataset=mnist,svhn,cifar10,sst2", "dataset.validation_fraction=0.2", "backbone=causal_lm",
        "backbone.model=lab/tiny", f"root={tmp_path}/runs",
    ]  # fmt: skip
    command = [sys.executable, "-m", "neurogen.run", "-m", *small, *words]
    how = {"cwd": tmp_path, "env": os.environ | environment, "capture_output": True, "text": True, "check": False}
    process = subprocess.run(command, timeout=300, **how)
    assert process.returncode == 0, process.stdout + process.stderr
    asked = dict(web.requests)
    ask = f"import urllib.request; urllib.request.urlopen('{web.address}', timeout=5)"
    for node in ("n1", "n2"):
        refused = subprocess.run(["srun", f"--nodelist={node}", "--mem=500M", sys.executable, "-c", ask], **how)
        assert "Connection refused" in refused.stderr, refused.stderr
    wait_for("the table", lambda: done(tmp_path / "runs"), patience_s=600)
    assert {row["dataset"] for row in results(tmp_path / "runs")} == {"mnist", "svhn", "cifar10", "sst2"}
    assert web.requests == asked
    scripts = [path.read_text() for path in (tmp_path / "runs").glob("queue/*/job.sh")]
    assert all("export HF_HUB_OFFLINE=1" in script for script in scripts)
