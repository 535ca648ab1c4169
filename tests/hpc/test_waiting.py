"""A command that waits for its sweep. The overviews are made up; scancel is a small script."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from hpc.errors import Unanswered
from hpc.jobs import waiting
from hpc.jobs.cluster import Cluster
from hpc.jobs.state import State
from hpc.jobs.status import Overview, StepStatus
from hpc.jobs.submission import Submitted
from hpc.jobs.sweep import Sweep
from hpc.jobs.waiting import wait_until_over
from tests.hpc.answers import PlainStep
from tests.hpc.conftest import site, sweep_to

SILENT = "Unable to contact slurm controller (connect failure)"
Watch = Callable[[Path, float], Iterator[Overview]]


def overview(state: State, stuck: tuple[str, ...] = ()) -> Overview:
    """Of a sweep with a single step."""
    step = StepStatus("last-f", "last", "plain", state, "", 0.0, 0.0, 0.0, "7", "")
    return Overview(Path("x"), "", (step,), stuck, 0.0, "")


def series(*looks: list[Overview]) -> Watch:
    """In place of `watch`: what each call of it yields."""
    left = list(looks)
    return lambda folder, pause_s: iter(left.pop(0))


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """With a step that nobody runs. A command is asked again after a hundredth of the usual pauses."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("NEUROGEN_POLL_S", "0.01")
    return sweep_to(PlainStep(tmp_path, "f" * 12, "last", None, ()), tmp_path)


def test_a_controller_that_is_away_for_a_while_does_not_end_a_wait_with_jobs_to_cancel(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All attempts fail at the first look; at the second, scancel gets through."""
    calls = tmp_path / "calls"
    script = f'echo "$@" >> {calls}; [ $(wc -l < {calls}) -gt 6 ] || {{ echo "{SILENT}" >&2; exit 1; }}'
    (tmp_path / "scancel").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "scancel").chmod(0o755)
    stuck = overview(State.PENDING, ("8",))
    monkeypatch.setattr(waiting, "watch", series([stuck, stuck, overview(State.DONE)]))
    wait_until_over(sweep, site(), Submitted((), {}, (), "code"))
    assert len(calls.read_text().splitlines()) == 7
    assert f"{SILENT}; asking again" in capsys.readouterr().err


def test_a_controller_that_is_away_for_a_while_does_not_end_a_wait_with_steps_to_submit(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The submission breaks off; the next one finds what it left in the queue, and does not try that again."""
    tried: list[set[str]] = []

    def submit(_: Sweep, cluster: Cluster, before: Collection[str]) -> Submitted:
        tried.append(set(before))
        if len(tried) == 1:
            raise Unanswered(SILENT)
        return Submitted((), {"a": None} if len(tried) == 2 else {}, (), "code", refusal="full" * (len(tried) == 2))  # type: ignore[dict-item]

    over = overview(State.FAILED)
    monkeypatch.setattr(waiting, "submit", submit)
    monkeypatch.setattr(waiting, "watch", series([overview(State.RUNNING), over], [over], [over]))
    wait_until_over(sweep, site(), Submitted((), {}, (), "code", refusal="full"))
    assert tried[0] == tried[1] == set()
    assert all(before == {"a"} for before in tried[2:])
    assert f"{SILENT}; asking again" in capsys.readouterr().err
