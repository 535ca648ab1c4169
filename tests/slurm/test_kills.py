"""Processes of jobs that are killed at random moments on a real SLURM, again and again; the same command each time.

in:  as many kills as FAULT_TRIES says; each takes one process of a job that runs: its script, srun, or Python
out: the same bits as those of a run that nothing disturbed
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import FinishedRun
from tests.faults.conftest import SEED, TRIES
from tests.slurm.conftest import (
    Sweep,
    active,
    differing_steps,
    done,
    jobs_of,
    reasons,
    wait_for,
)

pytestmark = pytest.mark.faults
KINDS = ("reference", "classical", "inject", "tune", "evaluate", "sweeps")
LONGEST_S = 12.0  # from the beginning of a job to the kill


def processes_of(root: Path) -> dict[int, str]:
    """The kind of step that a process works on, by its id; of jobs of this root, by what SLURM told each process."""
    running = jobs_of(root)
    lines = [line.split() for line in active()]
    kinds = {job.split("_")[0]: name.split("-")[1] for job, name, *_ in lines if job.split("_")[0] in running}
    marks = {f"SLURM{array}_JOB_ID={job}".encode(): kind for job, kind in kinds.items() for array in ("", "_ARRAY")}
    processes = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended
            for mark in marks.keys() & set(path.read_bytes().split(b"\0")):
                processes[int(path.parent.name)] = marks[mark]
    return processes


def kill_a_process(root: Path, rng: random.Random) -> str:
    """Of a job that does some step which is not done yet, at a random moment. Returns its program and step; "" where
    none was left."""
    chosen = rng.choice([kind for kind in KINDS if not done(root, kind)])

    def of_chosen() -> list[int]:
        return sorted(pid for pid, kind in processes_of(root).items() if kind == chosen)

    wait_for("a job", lambda: of_chosen() or not jobs_of(root))
    time.sleep(rng.uniform(0, LONGEST_S))
    pids = of_chosen()
    for pid in rng.sample(pids, len(pids)):
        with suppress(OSError):  # it has ended
            process = os.pidfd_open(pid)
            program = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
            signal.pidfd_send_signal(process, signal.SIGKILL)
            os.close(process)
            return f"{program} of {chosen}"
    return ""


def test_jobs_killed_at_random_moments_end_in_the_same_bits(
    sweep: Sweep, tiny_run: FinishedRun, tmp_path: Path
) -> None:
    rng, root, killed = random.Random(SEED), tmp_path / "runs", list[str]()
    while len(killed) < TRIES or root.exists():
        process = sweep()
        assert process.returncode == 0, process.stderr
        assert "Traceback" not in process.stderr
        if len(killed) < TRIES and (victim := kill_a_process(root, rng)):
            killed.append(victim)
        wait_for("the end", lambda: not jobs_of(root))
        (folder,) = (root / "sweeps").iterdir()
        if not done(root):
            failed = reasons(folder)
            assert failed, killed
            assert all(failed.values()), failed
            continue
        assert differing_steps(root, tiny_run) == [], killed
        shutil.rmtree(root)
    print(f"FAULT_SEED={SEED}: {dict(Counter(killed))}")
