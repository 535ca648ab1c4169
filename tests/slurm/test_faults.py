"""Faults of a real SLURM that come at a bad moment: jobs preempted twice, out of time during a save, daemons that stop.

A sweep goes on from the networks of a run that nothing disturbed, and must end in the same bits as that run. Flushing a
file of a stage takes seconds here, so a fault meets a save that is under way.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from hpc.jobs.attempts import STOPPED, attempts_of
from slurm.lab.lab import Lab
from tests.conftest import FinishedRun
from tests.faults.conftest import SELDOM
from tests.faults.interposed import library
from tests.slurm.conftest import (
    ASLEEP,
    Sweep,
    active,
    clear_queue,
    differing_steps,
    done,
    jobs_of,
    queue,
    states,
    status,
    steps,
    submission,
    wait_for,
    wrapped,
)

pytestmark = pytest.mark.faults
LONGER_THAN_AN_ANSWER_S = 12  # SLURM's commands wait 10 s for one
LONGER_THAN_A_MINUTE_S = 75
SLOWER_FLUSH_MS = 4000  # so all saves of stage 1 take longer than a minute
SLOW_FLUSH_MS = 1500  # so a save takes longer than SLURM waits before it kills
SHORT_OF_TIME = [
    *("+cluster.steps.inject.timeout_min=2", "cluster.signal_delay_s=60", "cluster.max_requeues=40"),
    *("cluster.partition=high", "+cluster.additional.nodelist=n1"),  # nothing preempts it
]
PREEMPTING = "sbatch --partition=high --nodelist=n2 --exclusive --output=/dev/null --wrap=true".split()
MOST_COMMANDS = 5
KINDS = ["evaluate", "inject", "reference", "sweeps", "tune"]  # a job each


@contextmanager
def away(lab: Lab, daemon: str, signal_number: int) -> Iterator[None]:
    """Inside, a daemon stands still, or is dead; afterwards it goes on, or is started again."""
    os.kill(lab._pid(daemon), signal_number)
    try:
        yield
    finally:
        back(lab, daemon, signal_number)


def back(lab: Lab, daemon: str, signal_number: int) -> None:
    """Let a daemon that was stopped go on; start one anew that was killed."""
    if signal_number == signal.SIGSTOP:
        os.kill(lab._pid(daemon), signal.SIGCONT)
    else:
        with suppress(ChildProcessError):
            os.waitpid(lab._pid(daemon), 0)
        lab._spawn(daemon, daemon, "-D")
    wait_for("SLURM's answer", lambda: subprocess.run(["squeue"], capture_output=True).returncode == 0)


def attempts(root: Path, kind: str) -> list[int | None]:
    """How the attempts at the step of this kind ended, over all its jobs."""
    paths = sorted(root.glob(f"queue/ng-{kind}*/attempt-0-*.json"), key=lambda path: path.name)
    return [json.loads(path.read_text())["exit_status"] for path in paths]


def half_written(root: Path) -> set[Path]:
    """The checkpoints of stage 1 that are being written, or were when their process was killed."""
    return set(root.glob("inject/*/checkpoints/.*.tmp.safetensors"))


def kinds_in_queue(root: Path) -> list[str]:
    """Of the jobs since the first of this root; a controller that was killed may bring back older ones."""
    first = min(map(int, jobs_of(root)))
    kinds = {int(line.split()[0].split("_")[0]): line.split()[1].split("-")[1] for line in active()}
    return sorted(kind for job_id, kind in kinds.items() if job_id >= first)


def going_on(folder: Path) -> set[str]:
    """The steps whose jobs wait or run."""
    return {identity for identity, state in states(folder).items() if state in ("pending", "running")}


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library under which flushing takes long."""
    built = library(tmp_path_factory.mktemp("slow"))
    if built is None:
        pytest.skip("there is no C compiler on this machine, so no save can be made slow")
    return built


def begun(
    folder: Path, tiny_run: FinishedRun, slow: Path, *arguments: str, flush_ms: int = SLOW_FLUSH_MS, first: str = "true"
) -> Path:
    """The root of a submitted sweep that has the steps before stage 1 from the undisturbed run.

    Saves of stage 1 are slow in jobs that begin before the file `fast` is in the folder. `first` is a line of their
    setup.
    """
    root, count = folder / "runs", folder / "count"
    count.write_bytes(bytes(8))
    for finished in ("reference", "classical"):
        shutil.copytree(tiny_run.folder / "runs" / finished, root / finished)
    variables = f"FAULT_ROOT={root}/inject FAULT_COUNT={count} FAULT_SLOW={flush_ms} LD_PRELOAD=$LD_PRELOAD:{slow}"
    setup = f"cluster.setup=['{first}','test -e {folder}/fast || export {variables}']"  # not of later submissions
    process = subprocess.run(**submission(folder, setup, *arguments), timeout=300, check=False)
    assert process.returncode == 0, process.stderr
    return root


def assert_ends_as_undisturbed(root: Path, tiny_run: FinishedRun) -> None:
    wait_for("the table", lambda: done(root))
    assert differing_steps(root, tiny_run) == []
    assert attempts(root, "evaluate")[-1:] == [0]


@pytest.fixture(scope="module")
def short_of_time(
    lab: Lab, tiny_run: FinishedRun, slow: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The root of a sweep of which stage 1 may run for two minutes at a time; it goes on beside the other tests."""
    folder = tmp_path_factory.mktemp("short")
    yield begun(folder, tiny_run, slow, *SHORT_OF_TIME, flush_ms=SLOWER_FLUSH_MS)
    clear_queue()


def test_preempted_twice_in_a_row_it_ends_in_the_same_bits(
    lab: Lab, short_of_time: Path, tiny_run: FinishedRun, slow: Path, tmp_path: Path
) -> None:
    """Each time during a save, which SLURM may kill before it ends."""
    root = begun(tmp_path, tiny_run, slow, "+cluster.additional.nodelist=n2")
    for count in (1, 2):
        before = half_written(root)
        wait_for("a save", lambda before=before: half_written(root) - before)
        subprocess.run(PREEMPTING, check=True, capture_output=True, timeout=300)
        wait_for("the next attempt", lambda count=count: len(attempts(root, "inject")) > count)
    (tmp_path / "fast").touch()
    assert_ends_as_undisturbed(root, tiny_run)
    *preempted, last = attempts(root, "inject")
    assert (len(preempted), last) == (2, 0)
    assert set(preempted) <= {130, None}  # it has saved, or was killed


def test_out_of_time_during_a_save_it_ends_in_the_same_bits(short_of_time: Path, tiny_run: FinishedRun) -> None:
    """It saves in time and goes back into the queue, or is killed; then the same command goes on."""
    root = short_of_time
    wait_for("the limit", lambda: attempts(root, "inject")[:1] == [130] or not jobs_of(root, "inject"))
    assert not done(root, "inject")
    (root.parent / "fast").touch()
    for _ in range(MOST_COMMANDS):
        wait_for("the end", lambda: done(root) or not jobs_of(root))
        if not done(root):
            subprocess.run(**submission(root.parent, *SHORT_OF_TIME), timeout=300, check=False)
    assert_ends_as_undisturbed(root, tiny_run)
    assert set(attempts(root, "inject")) <= {130, None, 0}


def test_an_attempt_on_a_node_whose_clock_is_ten_minutes_ahead(
    lab: Lab, tiny_run: FinishedRun, slow: Path, tmp_path: Path
) -> None:
    """It is preempted, and stage 1 goes on where the clock is right: the second attempt, although it began earlier."""
    clock = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
    if clock is None:
        pytest.skip("libfaketime is not installed, so no clock can be wrong")
    ahead = f"LD_PRELOAD={clock} FAKETIME=+600s FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1"
    first = f'test -n "$SLURM_RESTART_COUNT" || export {ahead}'
    root = begun(tmp_path, tiny_run, slow, "+cluster.additional.nodelist=n2", first=first)
    (folder,) = (root / "sweeps").iterdir()
    wait_for("a save", lambda: half_written(root))
    subprocess.run(PREEMPTING, check=True, capture_output=True, timeout=300)
    (queued,) = root.glob("queue/ng-inject*")
    wait_for("the next attempt", lambda: len(attempts_of(queued, 0)) > 1)
    before, now = attempts_of(queued, 0)
    assert before.started > time.time() > now.started
    assert before.exit_status in (STOPPED, None)
    (stage,) = (step for step in steps(folder) if step["kind"] == "inject")
    assert stage["state"] == "running"
    assert 0 <= stage["elapsed_s"] < 600
    (tmp_path / "fast").touch()
    assert_ends_as_undisturbed(root, tiny_run)
    assert [attempt.exit_status for attempt in attempts_of(queued, 0)] == [before.exit_status, 0]


@pytest.mark.parametrize("away_s", [LONGER_THAN_AN_ANSWER_S, pytest.param(LONGER_THAN_A_MINUTE_S, marks=SELDOM)])
@pytest.mark.parametrize("signal_number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_controller_that_is_away_during_a_submission(
    lab: Lab, sweep: Sweep, tmp_path: Path, signal_number: int, away_s: float
) -> None:
    """It goes when the second job comes, and returns later than SLURM's commands wait. Every job is there once."""
    calls = tmp_path / "calls"
    path = wrapped(
        tmp_path, "sbatch", f"echo call >> {calls}\nif [ $(wc -l < {calls}) = 2 ]; then "
        f'kill -{signal_number:d} {lab._pid("slurmctld")}; fi\nexec REAL "$@"',
    )  # fmt: skip
    with subprocess.Popen(**submission(tmp_path, *ASLEEP, PATH=path)) as submitting:
        wait_for("the second job", lambda: calls.exists() and len(calls.read_text().splitlines()) >= 2)
        time.sleep(away_s)
        back(lab, "slurmctld", signal_number)
        _, errors = submitting.communicate(timeout=300)
    assert "Traceback" not in errors
    if submitting.returncode:
        assert errors.splitlines()[-1].startswith("error: "), errors
    again = sweep(*ASLEEP)
    assert again.returncode == 0, again.stderr
    assert kinds_in_queue(tmp_path / "runs") == KINDS, queue()
    assert "0 submitted" in sweep(*ASLEEP).stdout
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    assert set(states(folder).values()) <= {"pending", "running"}


@pytest.mark.parametrize(
    ("daemon", "signal_number"),
    [("slurmctld", signal.SIGSTOP), ("slurmctld", signal.SIGKILL), ("slurmdbd", signal.SIGSTOP)],
)
def test_status_while_a_daemon_is_away(lab: Lab, sweep: Sweep, tmp_path: Path, daemon: str, signal_number: int) -> None:
    if daemon == "slurmdbd" and not lab.accounting:
        pytest.skip("this lab has no accounting")
    assert sweep(*ASLEEP).returncode == 0
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    before, submitted = going_on(folder), time.time()
    assert len(before) == len(states(folder))
    saved = lab.folder / "state" / "job_state"  # what a controller that is killed later knows of its jobs
    wait_for("SLURM to save its state", lambda: saved.exists() and saved.stat().st_mtime > submitted)
    with away(lab, daemon, signal_number):
        process = status(folder)
        assert process.returncode == 0, process.stderr
        assert "Traceback" not in process.stderr
        silent = re.findall(r"the scheduler does not answer \(squeue: .*\)", process.stdout)
        assert len(silent) == (daemon == "slurmctld"), process.stdout
        assert going_on(folder) == before
    assert not re.search("does not answer", status(folder).stdout)
    assert going_on(folder) == before
    assert "0 submitted" in sweep(*ASLEEP).stdout


@pytest.mark.parametrize("signal_number", [signal.SIGSTOP, pytest.param(signal.SIGKILL, marks=SELDOM)])
def test_accounting_that_is_away_from_submission_to_the_table(
    lab: Lab, sweep: Sweep, tiny_run: FinishedRun, tmp_path: Path, signal_number: int
) -> None:
    """Jobs are submitted, begin and end without slurmdbd. When it is back, nothing is left to do."""
    if not lab.accounting:
        pytest.skip("this lab has no accounting")
    root = tmp_path / "runs"
    for finished in ("reference", "classical"):
        shutil.copytree(tiny_run.folder / "runs" / finished, root / finished)
    with away(lab, "slurmdbd", signal_number):
        process = sweep()
        assert process.returncode == 0, process.stderr
        assert "Traceback" not in process.stderr
        assert_ends_as_undisturbed(root, tiny_run)
        (folder,) = (root / "sweeps").iterdir()
        assert set(states(folder).values()) == {"done"}
    assert set(states(folder).values()) == {"done"}
    assert "0 submitted" in sweep().stdout


@SELDOM
def test_a_controller_that_is_away_at_the_end_of_a_job(
    lab: Lab, sweep: Sweep, tiny_run: FinishedRun, slow: Path, tmp_path: Path
) -> None:
    """It stands still while stage 1 ends, and is dead while stage 2 does.

    What it has forgotten then, or has not heard, it may run again: the job finds its step done.
    """
    root = begun(tmp_path, tiny_run, slow, flush_ms=200)  # stage 1 is long enough to be met
    for kind, signal_number in (("inject", signal.SIGSTOP), ("tune", signal.SIGKILL)):
        wait_for(f"{kind} to run", lambda kind=kind: attempts(root, kind) == [None])
        with away(lab, "slurmctld", signal_number):
            wait_for(f"the end of {kind}", lambda kind=kind: attempts(root, kind) == [0])
            time.sleep(LONGER_THAN_AN_ANSWER_S)
    assert_ends_as_undisturbed(root, tiny_run)
    wait_for("an empty queue", lambda: not jobs_of(root))
    for kind in ("inject", "tune"):
        (marker,), (queued,) = root.glob(f"{kind}/*/DONE"), root.glob(f"queue/ng-{kind}*")
        finished = json.loads(marker.read_text())["finished"]
        first, *again = attempts_of(queued, 0)
        assert first.started < finished < first.ended
        assert all(attempt.started > finished for attempt in again)
        assert {attempt.exit_status for attempt in (first, *again)} == {0}
