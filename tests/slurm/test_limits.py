"""Jobs that need more memory or time than they asked for.

They mostly wait for a limit, so four sweeps wait together.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.lab.lab import Lab
from tests.faults.conftest import SELDOM
from tests.slurm.conftest import (
    Sweep,
    clear_queue,
    jobs_of,
    queue,
    reasons,
    submission,
    wait_for,
)

ENDLESS = ["zoo.training.epochs=100000", "classical.training.epochs=100000"]
ONE_MINUTE = ["cluster.steps.default.timeout_min=1", "classical.training.epochs=1"]
SWEEPS = {
    "out_of_time": [*ENDLESS, *ONE_MINUTE, "cluster.signal_delay_s=1", "cluster.max_requeues=0"],
    "out_of_memory": [*ENDLESS, "cluster.steps.default.mem_gb=0.1", "cluster.kill_on_invalid_dep=false"],
    "array": [
        *ENDLESS, *ONE_MINUTE, "cluster.signal_delay_s=5", "cluster.max_requeues=1", "zoo.chunk_size=1",
        "zoo.num_networks=2",
    ],
    "contained": [
        *ENDLESS, *ONE_MINUTE, "cluster.signal_delay_s=40", "cluster.max_requeues=1",
        "cluster.container='env PATH=/nowhere'",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def limited(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Their folders, by name, once all have been submitted."""
    folders = {name: tmp_path_factory.mktemp(name) for name in SWEEPS}
    for name, folder in folders.items():
        process = subprocess.run(**submission(folder, *SWEEPS[name]), timeout=600, check=False)
        assert process.returncode == 0, process.stderr
    yield folders
    clear_queue()


def sweep_in(folder: Path) -> Path:
    """The folder of the only sweep."""
    (sweep,) = (folder / "runs" / "sweeps").iterdir()
    return sweep


def stuck_under(root: Path) -> set[str]:
    """The ids of jobs that wait for a failed one."""
    ids = {json.loads(path.read_text())["job_id"] for path in root.glob("queue/*/record.json")}
    return ids & {line.split()[0] for line in queue() if "DependencyNeverSatisfied" in line}


def test_out_of_memory_and_out_of_time_are_told_apart(limited: dict[str, Path]) -> None:
    """The networks get too little of one or the other. At a site that leaves dependants waiting, run again helps."""
    hungry = limited["out_of_memory"]
    wait_for("the hungry networks", lambda: not jobs_of(hungry / "runs", "reference"))
    assert reasons(sweep_in(hungry))["reference"] == "out of memory: raise cluster.steps.reference.mem_gb"
    assert stuck_under(hungry / "runs")  # the stages, for ever
    again = subprocess.run(**submission(hungry, *SWEEPS["out_of_memory"]), timeout=600, check=False)
    assert "0 in the queue already, 6 submitted" in again.stdout, again.stdout + again.stderr
    assert not stuck_under(hungry / "runs")

    late = limited["out_of_time"]
    wait_for("the late networks", lambda: not jobs_of(late / "runs", "reference"))
    assert reasons(sweep_in(late))["reference"].startswith("out of time")


def test_out_of_time_puts_back_one_task_of_an_array(limited: dict[str, Path]) -> None:
    """As often as is allowed; then what needs it is cancelled, with the reason. Another task of the array that ended
    well stays so, though a busy machine may take it through its minute too."""
    folder = limited["array"]
    wait_for("the end", lambda: not jobs_of(folder / "runs"), patience_s=600)
    attempts = [
        [json.loads(path.read_text())["exit_status"] for path in sorted((folder / "runs" / "queue").glob(pattern))]
        for pattern in ("ng-reference*/attempt-0-*", "ng-reference*/attempt-1-*", "ng-reference*/attempt-2-*")
    ]
    *networks, classical = attempts
    assert networks == [[130, 124], [130, 124]]
    assert classical in ([0], [130, 0])
    failed = reasons(sweep_in(folder))
    assert failed["reference"] == "out of time, as often as cluster.max_requeues allows"
    assert failed["inject"].startswith("needs reference-")


def test_out_of_time_puts_back_a_step_in_a_container_without_slurm(limited: dict[str, Path]) -> None:
    root = limited["contained"] / "runs"
    wait_for("the end", lambda: not jobs_of(root), patience_s=600)
    (path,) = {path.parent for path in root.glob("queue/ng-reference*/attempt-0-*")}
    attempts = sorted(path.glob("attempt-0-*"))
    assert [json.loads(attempt.read_text())["exit_status"] for attempt in attempts] == [130, 124]


@pytest.mark.faults
@SELDOM
def test_a_log_of_a_gigabyte(sweep: Sweep, tmp_path: Path) -> None:
    """A job writes it before its step fails. Status gives the reason, in less memory than that."""
    log = f"test -e {tmp_path}/long || {{ touch {tmp_path}/long; yes of a gigabyte | head -c 1G; }}"
    assert sweep(f"cluster.setup=['{log}']", "zoo.training.lr=1e30").returncode == 0
    root = tmp_path / "runs"
    wait_for("the end", lambda: not jobs_of(root))
    assert max(path.stat().st_size for path in root.glob("queue/*/*_log.out")) > 2**30
    limited = ["sh", "-c", 'ulimit -v 600000 && exec "$@"', "sh", sys.executable, "-m", "neurogen.status"]
    process = subprocess.run([*limited, sweep_in(tmp_path)], capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 0, process.stderr
    assert "is nan; lower zoo.training.lr" in " ".join(process.stdout.split()), process.stdout
