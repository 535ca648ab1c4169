"""What SLURM's commands say, and how often they are asked. The commands here are small scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc.errors import ClusterError, Unanswered
from hpc.jobs import scheduler
from hpc.jobs.sbatch import sbatch
from hpc.jobs.scheduler import indices_of, seconds

SILENCE = "Socket timed out on send/recv operation"
BUSY_TWICE = f'[ $calls -lt 3 ] && echo "{SILENCE}" >&2 && exit 1'


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first on the PATH; pauses between two attempts are a hundredth of the usual ones."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("NEUROGEN_POLL_S", "0.05")
    return folder


def add(folder: Path, name: str, script: str) -> Path:
    """Make a command; returns the file to which each call adds a line."""
    calls = folder / f"{name}.calls"
    (folder / name).write_text(f"#!/bin/sh\necho call >> {calls}\ncalls=$(wc -l < {calls})\n{script}\n")
    (folder / name).chmod(0o755)
    return calls


@pytest.mark.parametrize(
    ("text", "expected"), [("", [None]), ("3", [3]), ("[0,2-4%2]", [0, 2, 3, 4]), ("[7]", [7]), ("[1-2]", [1, 2])]
)
def test_tasks_that_sacct_names_are_read(text: str, expected: list[int | None]) -> None:
    assert list(indices_of(text)) == expected


@pytest.mark.parametrize(("text", "expected"), [("0:07", 7), ("1:02:03", 3723), ("2-00:00:01", 172801), ("INVALID", 0)])
def test_elapsed_times_are_read(text: str, expected: int) -> None:
    assert seconds(text) == expected


def test_a_busy_controller_is_asked_again(commands: Path) -> None:
    calls = add(commands, "squeue", f'{BUSY_TWICE}; echo "7|N/A|RUNNING|0:01||n1|a"')
    (task,) = scheduler.query(["a", "b"])["a"]
    assert (task.job_id, task.index, task.is_active) == ("7", None, True)
    assert len(calls.read_text().splitlines()) == 3


def test_a_refusal_is_not_asked_again(commands: Path) -> None:
    calls = add(commands, "squeue", 'echo "Invalid user" >&2; exit 1')
    with pytest.raises(ClusterError, match="squeue: Invalid user") as refusal:
        scheduler.query(["a"])
    assert not isinstance(refusal.value, Unanswered)
    assert len(calls.read_text().splitlines()) == 1


def test_a_controller_that_never_answers_is_given_up(commands: Path) -> None:
    calls = add(commands, "squeue", f'echo "{SILENCE}" >&2; exit 1')
    with pytest.raises(Unanswered, match=SILENCE):
        scheduler.query(["a"])
    assert len(calls.read_text().splitlines()) == scheduler.ATTEMPTS


def test_a_job_that_got_through_is_not_submitted_again(commands: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The answer of sbatch is lost, and the controller stays busy for a while; then it knows the job by name."""
    calls = add(commands, "sbatch", f'echo "{SILENCE}" >&2; exit 1')
    add(commands, "squeue", f'{BUSY_TWICE}; echo "7|N/A|PENDING|0:00||n1|a"')
    assert sbatch(commands / "job.sh", "a") == "7"
    assert len(calls.read_text().splitlines()) == 1
    assert "asking whether a is in the queue all the same" in capsys.readouterr().err


def test_a_job_that_did_not_get_through_is_submitted_again(commands: Path) -> None:
    add(commands, "sbatch", f'[ $calls -lt 2 ] && echo "{SILENCE}" >&2 && exit 1; echo "8;cluster"')
    add(commands, "squeue", "exit 0")
    assert sbatch(commands / "job.sh", "a") == "8"


def test_a_job_that_may_be_in_the_queue_is_not_refused(commands: Path) -> None:
    """squeue cannot tell either: the record of the job must stay."""
    add(commands, "sbatch", f'echo "{SILENCE}" >&2; exit 1')
    add(commands, "squeue", 'echo "Invalid user" >&2; exit 1')
    with pytest.raises(Unanswered, match=f"did not answer in {scheduler.ATTEMPTS} attempts"):
        sbatch(commands / "job.sh", "a")


@pytest.mark.parametrize("text", ["0", "-1", "soon", ""])
def test_a_pause_that_makes_no_sense_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROGEN_POLL_S", text)
    with pytest.raises(ClusterError, match=f"NEUROGEN_POLL_S={text} must be a number of seconds above 0"):
        scheduler.poll_s()
