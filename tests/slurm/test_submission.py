"""Submissions that are cut off, meet each other's jobs, or get no answer from the controller."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from slurm.lab.lab import Lab
from tests.slurm.conftest import (
    ASLEEP,
    Finished,
    Sweep,
    active,
    queue,
    states,
    status,
    submission,
    wait_for,
    wrapped,
)


def test_a_submission_that_was_interrupted_is_completed(sweep: Sweep, tmp_path: Path, lab: Lab) -> None:
    """It is killed half-way, after sbatch was heard and before its answer was written down."""
    calls = tmp_path / "calls"
    path = wrapped(
        tmp_path,
        "sbatch",
        f'echo call >> {calls}\nif [ $(wc -l < {calls}) = 2 ]; then REAL "$@"; kill -9 $PPID; exit 1; fi\n'
        'exec REAL "$@"',
    )
    killed = sweep(*ASLEEP, PATH=path)
    assert killed.returncode == -9
    again = sweep(*ASLEEP)
    assert again.returncode == 0, again.stderr
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    names = {line.split()[1].split("-")[1] for line in active()}
    assert names == {"reference", "inject", "tune", "evaluate", "sweeps"}
    assert len({line.split()[0].split("_")[0] for line in active()}) == 5, queue()
    assert not {"missing", "failed", "unknown"} & set(states(folder).values())


def test_a_resubmission_that_was_interrupted_is_completed(sweep: Sweep, tmp_path: Path, lab: Lab) -> None:
    """Stage 1 was cancelled; submitted again, it is cut off before the table's job, which waits for the old ones."""
    assert sweep(*ASLEEP).returncode == 0
    root = tmp_path / "runs"
    (folder,) = (root / "sweeps").iterdir()
    (inject,) = (line.split()[0] for line in active() if "ng-inject" in line)
    subprocess.run(["scontrol", "hold", *(line.split()[0] for line in active() if "ng-sweeps" in line)], check=True)
    subprocess.run(["scancel", inject], check=True)
    calls = tmp_path / "calls"
    path = wrapped(
        tmp_path, "sbatch", f'echo call >> {calls}\nif [ $(wc -l < {calls}) = 2 ]; then kill -9 $PPID; exit 1; fi\n'
        'exec REAL "$@"',
    )  # fmt: skip
    assert sweep(*ASLEEP, PATH=path).returncode == -9
    assert sweep(*ASLEEP).returncode == 0
    records = [json.loads(path.read_text()) for path in (root / "queue").glob("*/record.json")]
    queued = {line.split()[0].split("_")[0] for line in active()}
    now = {record["kind"]: record for record in records if record["job_id"] in queued}
    assert len(queued) == len(now) == 5, queue()
    assert set(now["sweeps"]["after"]) == {record["name"] for kind, record in now.items() if kind != "sweeps"}
    again = sweep(*ASLEEP)
    assert "0 submitted" in again.stdout
    assert not {"missing", "failed", "unknown"} & set(states(folder).values())


def test_a_step_that_another_sweep_submitted_again_is_waited_for(sweep: Sweep, tmp_path: Path, lab: Lab) -> None:
    first, second = "recipe.tune.steps=9", "recipe.tune.steps=9,10"
    assert sweep(*ASLEEP, first).returncode == 0
    subprocess.run(["scontrol", "hold", *(line.split()[0] for line in active() if "ng-sweeps" in line)], check=True)
    subprocess.run(["scancel", *(line.split()[0] for line in active() if "ng-inject" in line)], check=True)
    assert sweep(*ASLEEP, second).returncode == 0
    again = sweep(*ASLEEP, first)
    assert "5 in the queue already, 1 submitted" in again.stdout, again.stdout
    jobs = {line.split()[0].split("_")[0]: line.split()[1].split("-")[1] for line in active()}
    assert sorted(jobs.values()) == ["evaluate"] * 2 + ["inject", "reference"] + ["sweeps"] * 2 + ["tune"] * 2, queue()


def test_what_another_sweep_waits_for_is_not_cancelled(sweep: Sweep, tmp_path: Path, lab: Lab) -> None:
    assert sweep(*ASLEEP, "recipe.tune.steps=9").returncode == 0
    assert sweep(*ASLEEP, "recipe.tune.steps=10").returncode == 0
    old, new = sorted((tmp_path / "runs" / "sweeps").iterdir(), key=lambda path: path.stat().st_mtime)
    cancelled = status(new, "--cancel").stdout
    assert re.search(r"^3 steps taken out.*\n3 stay, since another sweep waits for them: reference", cancelled), (
        cancelled
    )
    wait_for("the cancellation", lambda: "pending" not in (states(new)[step] for step in states(new) if "tune" in step))
    assert not {"missing", "failed", "unknown"} & set(states(old).values())
    assert status(old, "--cancel").stdout.startswith("6 steps taken out")


def test_jobs_of_other_accounts_are_left_and_named(sweep: Sweep, tmp_path: Path, lab: Lab) -> None:
    """scancel runs as another account; the submission goes on, and so does --cancel."""
    open_to_all = Path(tempfile.mkdtemp())
    open_to_all.chmod(0o755)
    shutil.copy(os.environ["SLURM_CONF"], open_to_all / "slurm.conf")
    stranger = f'SLURM_CONF={open_to_all}/slurm.conf exec runuser -u nobody -- REAL "$@"'
    path = wrapped(tmp_path, "scancel", stranger)
    try:
        first, second = "recipe.tune.steps=9", "recipe.tune.steps=9,10"
        assert sweep(*ASLEEP, first).returncode == 0
        (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
        subprocess.run(["scontrol", "hold", *(line.split()[0] for line in active() if "ng-sweeps" in line)], check=True)
        subprocess.run(["scancel", *(line.split()[0] for line in active() if "ng-inject" in line)], check=True)
        assert sweep(*ASLEEP, second).returncode == 0
        again = sweep(*ASLEEP, first, PATH=path)
        assert again.returncode == 0, again.stderr
        assert re.search(r"job \d+ hangs in the queue; only \w+ may cancel it", again.stderr), again.stderr
        kept = status(folder, "--cancel", PATH=path)
        assert re.search(r"^0 steps taken out(.|\n)*stay, since other accounts submitted them", kept.stdout), (
            kept.stdout
        )
    finally:
        shutil.rmtree(open_to_all)


def test_a_controller_that_does_not_answer_is_waited_for(finished: Finished, sweep: Sweep, tmp_path: Path) -> None:
    """A waiting sweep asks again; `status` says so, and shows what files tell."""
    finished.give(tmp_path / "runs", "reference", "classical", "inject", "tune")
    calls, over = tmp_path / "calls", tmp_path / "over"
    silence = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    path = wrapped(
        tmp_path, "squeue", f'echo call >> {calls}\nif [ $(wc -l < {calls}) -ge 3 ] && [ ! -e {over} ]; then\n'
        f'echo "{silence}" >&2; exit 1; fi\nexec REAL "$@"',
    )  # fmt: skip
    with subprocess.Popen(**submission(tmp_path, "hydra.launcher.wait=true", PATH=path)) as waiting:
        wait_for("the wait", lambda: calls.exists() and len(calls.read_text().splitlines()) >= 4)
        (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
        asked = status(folder, PATH=path, NEUROGEN_POLL_S="0.1")
        assert "the scheduler does not answer (squeue: slurm_load_jobs error: Unable to contact" in asked.stdout
        assert re.search(r"^ tune +1 ", asked.stdout, re.MULTILINE), asked.stdout
        over.touch()
        output, errors = waiting.communicate(timeout=300)
    assert waiting.returncode == 0, errors
    assert "6 done" in output, output + errors


def test_no_job_is_submitted_twice_though_nobody_answers(sweep: Sweep, tmp_path: Path, lab: Lab) -> None:
    """The first sbatch gets through, its answer and everything after it does not: the intent stays on record."""
    calls = tmp_path / "calls"
    silence = "Socket timed out on send/recv operation"
    path = wrapped(tmp_path, "sbatch", f'echo call >> {calls}; REAL "$@" > /dev/null; echo "{silence}" >&2; exit 1')
    wrapped(tmp_path, "squeue", f'if [ -e {calls} ]; then echo "{silence}" >&2; exit 1; fi; exec REAL "$@"')
    cut = sweep(*ASLEEP, PATH=path, NEUROGEN_POLL_S="0.1")
    assert cut.returncode == 1
    assert "run again later: what was submitted is found, nothing is lost" in cut.stderr, cut.stderr
    assert len(calls.read_text().splitlines()) == 1
    again = sweep(*ASLEEP)
    assert ", 4 submitted" in again.stdout, again.stdout + again.stderr
    jobs = {line.split()[0].split("_")[0]: line.split()[1].split("-")[1] for line in queue()}
    assert sorted(jobs.values()) == ["evaluate", "inject", "reference", "sweeps", "tune"], queue()


def test_an_ambiguous_answer_is_not_a_second_job(sweep: Sweep, tmp_path: Path) -> None:
    """The controller took the job and the answer timed out: the job is found by its name."""
    calls = tmp_path / "calls"
    silence = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    path = wrapped(
        tmp_path,
        "sbatch",
        f"echo call >> {calls}\n"
        f'if [ $(wc -l < {calls}) = 1 ]; then REAL "$@" > /dev/null; echo "{silence}" >&2; exit 1; fi\n'
        'exec REAL "$@"',
    )
    process = sweep(*ASLEEP, PATH=path)
    assert process.returncode == 0, process.stderr
    assert "asking whether" in process.stderr
    assert len(calls.read_text().splitlines()) == 5  # networks, inject, tune, evaluate, aggregation
    assert len({line.split()[0].split("_")[0] for line in active()}) == 5
