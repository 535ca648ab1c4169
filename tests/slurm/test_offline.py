"""A sweep whose jobs find nothing outside: what they need was fetched, and then the servers were gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from slurm.lab.lab import Lab
from tests.outside import language_model, outside, published, serving, text_dataset
from tests.slurm.conftest import SMALL, clear_queue, done, results, wait_for


def test_from_an_empty_cache_to_the_table_without_a_network_on_the_nodes(lab: Lab, tmp_path: Path) -> None:
    """The user's command with four datasets and a model of the Hub. Until the servers end, jobs wait in the queue."""
    small = [word for word in SMALL if not word.startswith(("dataset=", "target=", "backbone="))]
    words = [
        "dataset=mnist,svhn,cifar10,sst2", "dataset.validation_fraction=0.2", "backbone=causal_lm",
        "backbone.model=lab/tiny", f"root={tmp_path}/runs", "+cluster.additional.begin=now+15",
    ]  # fmt: skip
    with serving() as web:
        web.files |= published().files
        web.hub |= {"lab/tiny": language_model(), "datasets/stanfordnlp/sst2": text_dataset()}
        environment = os.environ | outside(web, tmp_path / "outside", published())
        command = [sys.executable, "-m", "neurogen.run", "-m", *small, *words]
        process = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
    assert process.returncode == 0, process.stdout + process.stderr
    assert not (tmp_path / "runs" / "reference").exists()  # nothing has begun
    wait_for("the table", lambda: done(tmp_path / "runs"), patience_s=600)
    assert {row["dataset"] for row in results(tmp_path / "runs")} == {"mnist", "svhn", "cifar10", "sst2"}
    scripts = [path.read_text() for path in (tmp_path / "runs").glob("queue/*/job.sh")]
    assert all("export HF_HUB_OFFLINE=1" in script for script in scripts)
    clear_queue()
