"""What runs on a node, without a node."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hpc.jobs.attempts import attempts_of
from hpc.jobs.payload import Payload
from hpc.jobs.queue import Queue, new_record
from neurogen.program import settings_of
from tests.hpc.conftest import PROGRAM, Composed, sweep_of

SILENCE = "Socket timed out on send/recv operation"
BUSY_TWICE = f'[ $(grep -c "$1" $0.calls) -lt 3 ] && echo "{SILENCE}" >&2 && exit 1; exit 0'
REFUSES = "trap 'exit 1' EXIT; >&2 echo"
ENDED = "[ $(grep -c requeue $0.calls) -eq 1 ] && kill -KILL $$"
PREEMPTED = "JobState=RUNNING Requeue=1 PreemptTime=2026-01-01T00:00:00"


def stopped_by(signal_number: int, folder: Path, experiment: Composed, max_requeues: int = 0, **variables: str) -> int:
    """The exit status of a job that gets this signal while its payload is loaded, and torch with it."""
    sweep = dataclasses.replace(sweep_of(experiment, folder), runtime=settings_of(experiment()))
    Payload.of(sweep, [sweep.steps[0]], max_requeues=max_requeues).write(folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    process = subprocess.Popen([sys.executable, "-m", "hpc", PROGRAM, str(folder), "0"], env=environment | variables)
    caught = 0
    while not caught & 1 << signal_number - 1:
        assert process.poll() is None
        state = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        caught = int(re.findall(r"SigCgt:\s*(\w+)", state)[0], 16)
    assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")
    process.send_signal(signal_number)
    return process.wait(timeout=120)


def commands(folder: Path, scontrol: str) -> tuple[Path, dict[str, str]]:
    """A file with the words of every call of a scontrol that does this, and the variables of a job that has it."""
    command, calls = folder / "bin" / "scontrol", folder / "bin" / "scontrol.calls"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n{scontrol}\n')
    command.chmod(0o755)
    path = f"{command.parent}:{os.environ['PATH']}"
    return calls, {"PATH": path, "SLURM_JOB_ID": "7", "NEUROGEN_POLL_S": "0.05"}


def test_a_signal_in_the_first_second_is_heard(experiment: Composed, tmp_path: Path) -> None:
    """It is noted as out of time, not as killed."""
    assert stopped_by(signal.SIGUSR2, tmp_path, experiment) == 124
    (attempt,) = attempts_of(tmp_path, 0)
    assert (attempt.exit_status, attempt.message) == (124, "out of time")


def test_a_busy_controller_is_asked_again_to_put_a_job_back(experiment: Composed, tmp_path: Path) -> None:
    calls, job = commands(tmp_path, BUSY_TWICE)
    assert stopped_by(signal.SIGUSR2, tmp_path, experiment, 1, **job) == 130
    assert calls.read_text().splitlines() == ["show job --oneliner 7", *["requeue 7"] * 3]
    (attempt,) = attempts_of(tmp_path, 0)
    assert (attempt.message, attempt.requeued) == ("out of time, back in the queue", True)


def test_a_local_step_inside_of_an_allocation_has_no_dependants(
    experiment: Composed, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, job = commands(tmp_path, "exit 0")
    assert stopped_by(signal.SIGUSR2, tmp_path, experiment, **job) == 124
    assert "could not cancel" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("scontrol", "status", "message", "cancelled"),
    [
        (f"{REFUSES} '{SILENCE}'", 130, r"out of time, maybe back in the queue \(.*Socket timed out", []),
        (f"{ENDED}; {REFUSES} 'in transition'", 130, r"out of time, maybe back in the queue \(.*in transition", []),
        (f"{REFUSES} 'is disabled'", 124, "out of time, and not put back into the queue: .*disabled", ["--", "8"]),
    ],
)
def test_dependants_are_cancelled_unless_the_job_may_be_back_in_the_queue(
    experiment: Composed, tmp_path: Path, scontrol: str, status: int, message: str, cancelled: list[str]
) -> None:
    """They may wait for it. SLURM ends a job that it puts back, and maybe the scontrol that asks for it."""
    folder = tmp_path / "queue" / "a"
    folder.mkdir(parents=True)
    _, job = commands(tmp_path, scontrol)
    squeue = "for job in '7|a' '8|b'; do echo \"${job%|*}|N/A|PENDING|0:00|Dependency||${job#*|}\"; done"
    for name, script in (("scancel", f'echo "$@" >> {tmp_path}/cancelled'), ("squeue", squeue)):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    steps = [("a", "", tmp_path)], [("b", "", tmp_path)]
    queue = Queue(tmp_path)
    queue.write(dataclasses.replace(new_record("a", "reference", steps[0]), job_id="7"))
    queue.write(dataclasses.replace(new_record("b", "inject", steps[1], ["a"], ["a"]), job_id="8"))
    assert stopped_by(signal.SIGUSR2, folder, experiment, 1, **job) == status
    (attempt,) = attempts_of(folder, 0)
    assert re.search(message, attempt.message)
    file = tmp_path / "cancelled"
    assert (file.read_text().split() if file.exists() else []) == cancelled


def test_a_preempted_job_that_gets_the_signal_of_the_time_limit_uses_up_no_requeue(
    experiment: Composed, tmp_path: Path
) -> None:
    """A site with PreemptParameters=send_user_signal sends it, and may preempt a job more often than max_requeues."""
    calls, job = commands(tmp_path, f'[ "$1" = requeue ] || echo "JobId=7 {PREEMPTED}"')
    assert stopped_by(signal.SIGUSR2, tmp_path, experiment, **job) == 130
    assert calls.read_text().splitlines()[-1] == "requeue 7"
    (attempt,) = attempts_of(tmp_path, 0)
    assert (attempt.message, attempt.requeued) == ("preempted, back in the queue", False)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (PREEMPTED, ["requeue 7"]),
        (PREEMPTED.replace("2026-01-01T00:00:00", "None"), []),  # somebody sent the signal
        (PREEMPTED.replace("RUNNING", "COMPLETING"), []),  # it was cancelled, or SLURM puts it back by itself
        (PREEMPTED.replace("Requeue=1", "Requeue=0"), []),
    ],
)
def test_a_job_that_is_preempted_with_a_time_of_grace_puts_itself_back(
    experiment: Composed, tmp_path: Path, answer: str, expected: list[str]
) -> None:
    """Not counted among those that ran out of time."""
    calls, job = commands(tmp_path, f'[ "$1" = requeue ] || echo "JobId=7 {answer} Reason=a b"')
    assert stopped_by(signal.SIGTERM, tmp_path, experiment, **job) == 130
    assert calls.read_text().splitlines() == ["show job --oneliner 7", *expected]
    (attempt,) = attempts_of(tmp_path, 0)
    assert not attempt.requeued
    assert attempt.message == ("preempted, back in the queue" if expected else "stopped by a signal, saved")
