"""What goes wrong on a real SLURM: what fails, what the site refuses, what interrupts a submission."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from slurm.lab.lab import Lab
from tests.slurm.conftest import (
    Sweep,
    active,
    queue,
    reasons,
    results,
    states,
    status,
    submission,
    wait_for,
    wrapped,
)

LONG = ["zoo.training.epochs=400", "classical.training.epochs=400"]


@pytest.mark.parametrize("kill", ["true", "false"])
def test_a_failure_stops_only_what_hangs_on_it(sweep: Sweep, tmp_path: Path, kill: str) -> None:
    """One of two points cannot work; the other is in a partial table. Also where the site cancels no dependants."""
    arguments = ["recipe.tune.lr=1e-3,1e30", "recipe.tune.clip_norm=1e30", f"cluster.kill_on_invalid_dep={kill}"]
    arguments += ["recipe.inject.steps=2", "recipe.tune.steps=3"]
    assert sweep(*arguments).returncode == 0
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    wait_for("the partial table", lambda: results(tmp_path / "runs"))
    wait_for("the end", lambda: not active())
    rows = {row["settings"]: (row["status"], row["n_ok"]) for row in results(tmp_path / "runs")}
    assert rows == {"recipe.tune.lr=0.001": ("ok", 2), "recipe.tune.lr=1e+30": ("incomplete", 0)}
    assert not (folder / "DONE").exists()
    failed = reasons(folder)
    assert "the loss is nan" in failed["tune"]
    assert re.match(r"tune-\w+ failed: .*the loss is nan", failed["evaluate"]), failed
    assert "1 of 2 evaluations are missing" in failed["sweeps"]
    again = sweep(*arguments)
    assert re.search(r"tune +1 steps", again.stdout), again.stdout
    assert not re.search(r"(reference|inject) +\d+ steps", again.stdout), again.stdout


def test_out_of_memory_and_out_of_time_are_told_apart(sweep: Sweep, tmp_path: Path) -> None:
    """The networks get too little of one or of the other. At a site that leaves dependants waiting, run again helps."""
    endless = ["zoo.training.epochs=100000", "classical.training.epochs=100000"]
    limits = ["cluster.steps.default.timeout_min=1", "cluster.signal_delay_s=1", "cluster.max_requeues=0"]
    assert sweep(*endless, *limits, "seed=0").returncode == 0
    hungry = [*endless, "seed=1", "cluster.steps.default.mem_gb=0.1", "cluster.kill_on_invalid_dep=false"]
    assert sweep(*hungry).returncode == 0
    wait_for("the networks", lambda: not any("ng-reference" in line for line in active()))
    memory, time = sorted(
        (reasons(folder)["reference"] for folder in (tmp_path / "runs" / "sweeps").iterdir()),
        key=lambda why: "time" in why,
    )
    assert memory == "out of memory: raise cluster.steps.reference.mem_gb"
    assert time.startswith("out of time")
    assert any("DependencyNeverSatisfied" in line for line in queue())  # the second's stages, for ever
    again = sweep(*hungry)
    assert "0 in the queue already, 6 submitted" in again.stdout, again.stdout + again.stderr
    assert not any("DependencyNeverSatisfied" in line for line in queue())


def test_a_node_that_failed_is_left_out(sweep: Sweep, tmp_path: Path, lab: Lab) -> None:
    arguments = ["zoo.training.epochs=100000", "classical.training.epochs=100000"]
    arguments += ["+cluster.additional.requeue=false", "+cluster.additional.no_requeue=true"]
    assert sweep(*arguments).returncode == 0
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    wait_for("the networks", lambda: any("ng-reference" in line and "RUNNING" in line for line in queue()))
    (node,) = {line.split()[-1] for line in queue() if "RUNNING" in line}
    subprocess.run(["scontrol", "update", f"nodename={node}", "state=down", "reason=test"], check=True)
    try:
        wait_for("the end", lambda: not active())
        assert reasons(folder)["reference"] == f"{node} failed; run again leaves it out"
        assert sweep(*arguments).returncode == 0
    finally:
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=False)
    script = max((tmp_path / "runs" / "queue").glob("ng-reference*/job.sh"), key=lambda path: path.stat().st_mtime)
    assert f"#SBATCH --exclude={node}" in script.read_text().splitlines()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cluster.partition=nowhere"], "set cluster.partition (now nowhere)"),
        (["cluster.steps.default.mem_gb=9999"], "lower cluster.steps.default"),
        (["cluster.steps.default.timeout_min=9999"], "lower cluster.steps.default.timeout_min"),
        (["zoo.num_networks=150", "zoo.chunk_size=1", "cluster.max_array=1000"], "lower cluster.max_array (now 1000)"),
        (["cluster.steps.default.nodes=0"], "cluster.steps.default.nodes=0 must be a number, at least 1"),
        (["+cluster.colour=red"], "unknown colour; allowed: account"),
        (["dataset.load=nowhere.load"], "dataset.load=nowhere.load is no importable function"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(sweep: Sweep, tmp_path: Path, arguments: list[str], message: str) -> None:
    process = sweep(*arguments)
    assert process.returncode == 1
    assert message in process.stderr
    assert "Traceback" not in process.stderr
    assert not active()


def test_a_folder_that_nodes_do_not_see_is_named(sweep: Sweep, tmp_path: Path) -> None:
    """What sbatch cannot know: nobody wrote a log, or a sign of life."""
    assert sweep("zoo.training.epochs=4", "+cluster.additional.begin=now+5").returncode == 0
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    for place in (tmp_path / "runs" / "queue").iterdir():
        if place.is_dir():
            (place / "payload.pkl").rename(place / "elsewhere.pkl")
    wait_for("the end", lambda: not active())
    assert re.search(r"before it began: does n\d see .*, and this Python", reasons(folder)["reference"])


def test_a_submission_that_was_interrupted_is_completed(sweep: Sweep, tmp_path: Path, lab: Lab) -> None:
    """It is killed half-way, after sbatch was heard and before its answer was written down."""
    calls = tmp_path / "calls"
    path = wrapped(
        tmp_path,
        "sbatch",
        f'echo call >> {calls}\nif [ $(wc -l < {calls}) = 2 ]; then REAL "$@"; kill -9 $PPID; exit 1; fi\n'
        'exec REAL "$@"',
    )
    killed = sweep("zoo.training.epochs=400", PATH=path)
    assert killed.returncode == -9
    again = sweep("zoo.training.epochs=400")
    assert again.returncode == 0, again.stderr
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    names = {line.split()[1].split("-")[1] for line in active()}
    assert names == {"reference", "inject", "tune", "evaluate", "sweeps"}
    assert len({line.split()[0].split("_")[0] for line in active()}) == 5, queue()
    assert not {"missing", "failed", "unknown"} & set(states(folder).values())


def test_a_resubmission_that_was_interrupted_is_completed(sweep: Sweep, tmp_path: Path, lab: Lab) -> None:
    """Stage 1 was cancelled; submitted again, it is cut off before the table's job, which waits for the old ones."""
    assert sweep(*LONG).returncode == 0
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
    assert sweep(*LONG, PATH=path).returncode == -9
    assert sweep(*LONG).returncode == 0
    records = [json.loads(path.read_text()) for path in (root / "queue").glob("*/record.json")]
    queued = {line.split()[0].split("_")[0] for line in active()}
    now = {record["kind"]: record for record in records if record["job_id"] in queued}
    assert len(queued) == len(now) == 5, queue()
    assert set(now["sweeps"]["after"]) == {record["name"] for kind, record in now.items() if kind != "sweeps"}
    again = sweep(*LONG)
    assert "0 submitted" in again.stdout
    assert not {"missing", "failed", "unknown"} & set(states(folder).values())


def test_a_step_that_another_sweep_submitted_again_is_waited_for(sweep: Sweep, tmp_path: Path, lab: Lab) -> None:
    first, second = "recipe.tune.steps=9", "recipe.tune.steps=9,10"
    assert sweep(*LONG, first).returncode == 0
    subprocess.run(["scontrol", "hold", *(line.split()[0] for line in active() if "ng-sweeps" in line)], check=True)
    subprocess.run(["scancel", *(line.split()[0] for line in active() if "ng-inject" in line)], check=True)
    assert sweep(*LONG, second).returncode == 0
    again = sweep(*LONG, first)
    assert "5 in the queue already, 1 submitted" in again.stdout, again.stdout
    jobs = {line.split()[0].split("_")[0]: line.split()[1].split("-")[1] for line in active()}
    assert sorted(jobs.values()) == ["evaluate"] * 2 + ["inject", "reference"] + ["sweeps"] * 2 + ["tune"] * 2, queue()


def test_what_another_sweep_waits_for_is_not_cancelled(sweep: Sweep, tmp_path: Path, lab: Lab) -> None:
    assert sweep(*LONG, "recipe.tune.steps=9").returncode == 0
    assert sweep(*LONG, "recipe.tune.steps=10").returncode == 0
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
        assert sweep(*LONG, first).returncode == 0
        (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
        subprocess.run(["scontrol", "hold", *(line.split()[0] for line in active() if "ng-sweeps" in line)], check=True)
        subprocess.run(["scancel", *(line.split()[0] for line in active() if "ng-inject" in line)], check=True)
        assert sweep(*LONG, second).returncode == 0
        again = sweep(*LONG, first, PATH=path)
        assert again.returncode == 0, again.stderr
        assert re.search(r"job \d+ hangs in the queue; only \w+ may cancel it", again.stderr), again.stderr
        kept = status(folder, "--cancel", PATH=path)
        assert re.search(r"^0 steps taken out(.|\n)*stay, since other accounts submitted them", kept.stdout), (
            kept.stdout
        )
    finally:
        shutil.rmtree(open_to_all)


def test_a_controller_that_does_not_answer_is_waited_for(sweep: Sweep, tmp_path: Path, lab: Lab) -> None:
    """A waiting sweep asks again; `status` says so and claims nothing."""
    calls, over = tmp_path / "calls", tmp_path / "over"
    said = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    path = wrapped(
        tmp_path, "squeue", f'echo call >> {calls}\nif [ $(wc -l < {calls}) -ge 3 ] && [ ! -e {over} ]; then\n'
        f'echo "{said}" >&2; exit 1; fi\nexec REAL "$@"',
    )  # fmt: skip
    with subprocess.Popen(**submission(tmp_path, "hydra.launcher.wait=true", PATH=path)) as waiting:
        wait_for("the wait", lambda: calls.exists() and len(calls.read_text().splitlines()) >= 4)
        (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
        asked = status(folder, PATH=path)
        assert (asked.returncode, asked.stdout) == (1, "")
        assert asked.stderr.startswith("error: squeue: slurm_load_jobs error: Unable to contact")
        over.touch()
        output, errors = waiting.communicate(timeout=300)
    assert waiting.returncode == 0, errors
    assert "6 done" in output, output + errors


def test_no_job_is_submitted_twice_though_nobody_answers(sweep: Sweep, tmp_path: Path, lab: Lab) -> None:
    """The first sbatch gets through, its answer and everything after it does not: the intent stays on record."""
    calls = tmp_path / "calls"
    said = "Socket timed out on send/recv operation"
    path = wrapped(tmp_path, "sbatch", f'echo call >> {calls}; REAL "$@" > /dev/null; echo "{said}" >&2; exit 1')
    wrapped(tmp_path, "squeue", f'if [ -e {calls} ]; then echo "{said}" >&2; exit 1; fi; exec REAL "$@"')
    cut = sweep(*LONG, PATH=path)
    assert cut.returncode == 1
    assert "run again later: what was submitted is found, nothing is lost" in cut.stderr, cut.stderr
    assert len(calls.read_text().splitlines()) == 1
    again = sweep(*LONG)
    assert ", 4 submitted" in again.stdout, again.stdout + again.stderr
    jobs = {line.split()[0].split("_")[0]: line.split()[1].split("-")[1] for line in queue()}
    assert sorted(jobs.values()) == ["evaluate", "inject", "reference", "sweeps", "tune"], queue()


def test_out_of_time_puts_back_one_task_of_an_array(sweep: Sweep, tmp_path: Path, lab: Lab) -> None:
    """As often as is allowed; then what needs it is cancelled, with the reason. The array's other tasks run once."""
    arguments = ["zoo.training.epochs=100000", "zoo.chunk_size=1", "zoo.num_networks=2", "cluster.max_requeues=1"]
    arguments += ["cluster.steps.default.timeout_min=1", "cluster.signal_delay_s=20", "classical.training.epochs=1"]
    assert sweep(*arguments).returncode == 0
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    wait_for("the end", lambda: not active(), patience_s=600)
    attempts = [
        [json.loads(path.read_text())["exit_status"] for path in sorted((tmp_path / "runs" / "queue").glob(pattern))]
        for pattern in ("ng-reference*/attempt-0-*", "ng-reference*/attempt-1-*", "ng-reference*/attempt-2-*")
    ]
    assert attempts == [[130, 124], [130, 124], [0]]
    why = reasons(folder)
    assert why["reference"] == "out of time, as often as cluster.max_requeues allows"
    assert why["inject"].endswith("failed: out of time, as often as cluster.max_requeues allows")


def test_an_ambiguous_answer_is_not_a_second_job(sweep: Sweep, tmp_path: Path) -> None:
    """The controller took the job and the answer timed out: the job is found by its name."""
    calls = tmp_path / "calls"
    said = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    path = wrapped(
        tmp_path,
        "sbatch",
        f"echo call >> {calls}\n"
        f'if [ $(wc -l < {calls}) = 1 ]; then REAL "$@" > /dev/null; echo "{said}" >&2; exit 1; fi\n'
        'exec REAL "$@"',
    )
    process = sweep("zoo.training.epochs=400", PATH=path)
    assert process.returncode == 0, process.stderr
    assert "asking whether" in process.stderr
    assert len(calls.read_text().splitlines()) == 5  # networks, inject, tune, evaluate, aggregation
    assert len({line.split()[0].split("_")[0] for line in active()}) == 5
