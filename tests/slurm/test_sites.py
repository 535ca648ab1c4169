"""What sites ask for, on a real SLURM: limits on jobs and arrays, other options of sbatch, containers, wrappers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurm.lab.lab import Lab
from tests.slurm.conftest import ASLEEP, Finished, Sweep, done, wrapped

Limit = Callable[[int], None]


@pytest.fixture
def limit(lab: Lab) -> Iterator[Limit]:
    """limit(3): so many jobs, of arrays so many tasks, this account may have in the queue; -1: any number."""
    if not lab.accounting:
        pytest.skip("only accounting limits the number of jobs; run `slurm/lab/lab.py install --accounting` first")

    def become(number: int) -> None:
        command = ["sacctmgr", "-i", "modify", "user", "root", "set", f"MaxSubmitJobs={number}"]
        subprocess.run(command, check=True, capture_output=True)

    yield become
    become(-1)


def test_a_site_that_takes_a_part_gets_the_rest_later(sweep: Sweep, limit: Limit) -> None:
    """Also a part of an array, every task of which counts."""
    many = [*ASLEEP, "zoo.chunk_size=1"]
    limit(3)
    cut = sweep(*many)
    assert cut.returncode == 1
    assert "8 steps: 0 done, 0 in the queue already, 3 submitted" in cut.stdout, cut.stdout
    assert "5 of 8 steps are not submitted, since the site lets you queue no more jobs now" in cut.stderr, cut.stderr
    assert "(AssocMaxSubmitJobLimit)" in cut.stderr
    limit(-1)
    again = sweep(*many)
    assert "3 in the queue already, 5 submitted" in again.stdout, again.stdout + again.stderr


def test_a_sweep_that_is_waited_for_is_submitted_in_waves(
    finished: Finished, sweep: Sweep, tmp_path: Path, limit: Limit
) -> None:
    finished.give(tmp_path / "runs", "reference", "classical", "inject", "tune")
    limit(1)
    waited = sweep("hydra.launcher.wait=true")
    assert waited.returncode == 0, waited.stdout + waited.stderr
    assert "the site takes no more jobs now (AssocMaxSubmitJobLimit)" in waited.stdout
    assert "1 more steps submitted" in waited.stdout
    assert done(tmp_path / "runs")


def test_an_array_is_divided_where_the_site_takes_no_larger_one(sweep: Sweep, tmp_path: Path, lab: Lab) -> None:
    """The lab's MaxArraySize is 101."""
    process = sweep(*ASLEEP, "zoo.num_networks=150", "zoo.chunk_size=1", "cluster.max_array=1000")
    assert process.returncode == 0, process.stderr
    records = [json.loads(path.read_text()) for path in (tmp_path / "runs" / "queue").glob("ng-*/record.json")]
    assert sorted(len(record["steps"]) for record in records if record["is_array"]) == [50, 101]


def test_a_site_is_asked_in_its_own_way(finished: Finished, sweep: Sweep, tmp_path: Path) -> None:
    """GPUs by --gres, no --mem, whole nodes; in a container, with a talkative sbatch, in another time zone."""
    finished.give(tmp_path / "runs", "reference", "classical", "inject", "tune")
    container = tmp_path / "container"
    container.write_text('#!/bin/sh\necho "contained, GPU $CUDA_VISIBLE_DEVICES of $SLURM_JOB_NODELIST"\nexec "$@"\n')
    container.chmod(0o755)
    talk = 'echo "Welcome to cluster 9"; echo "it costs 2 hours" >&2; REAL "$@"; echo "12 are left"'
    process = sweep(
        "hydra.launcher.wait=true",
        "cluster.gpu_option=gres",
        "cluster.gpu_type=a100",
        "+cluster.steps.evaluate.gpus_per_node=2",
        "cluster.steps.default.mem_gb=null",
        "cluster.srun=['--cpu-bind=none']",
        f"cluster.container='unshare --mount {container}'",
        "+cluster.additional.exclusive=true",
        "+cluster.additional.gpu_bind=none",
        PATH=wrapped(tmp_path, "sbatch", talk),
        TZ="Pacific/Kiritimati",
        SQUEUE_PARTITION="high",
    )
    assert process.returncode == 0, process.stdout + process.stderr
    (evaluate,) = (tmp_path / "runs" / "queue").glob("ng-evaluate-*")
    assert "--mem" not in (evaluate / "job.sh").read_text()
    (log,) = evaluate.glob("*_log.out")
    assert "contained, GPU 0,1 of n" in log.read_text()
