"""File systems that do less: no locks, a quota, read-only, another place, clocks apart; and many commands at once."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hpc.jobs.answer import Answer
from hpc.jobs.attempts import AttemptLog
from hpc.jobs.queue import Queue, new_record
from hpc.jobs.state import State
from hpc.jobs.unheard import state_of
from hpc.jobs.view import QueueView
from tests.conftest import TINY, FinishedRun, Program, StartProgram, error_line
from tests.faults.conftest import MARKS, SEED, STEPS, TRIES, Undisturbed
from tests.faults.interposed import Fault, Server
from tests.faults.jobs import content_of, differences
from tests.faults.test_calls import said_in_one_line

pytestmark = MARKS
MORE_THAN_A_RUN_KB = 20_000
AT_ONCE = 3
MOST_APART_S = 4.0


@pytest.mark.parametrize("error", ["ENOLCK", "ENOTSUP", "ENOSYS"])
@pytest.mark.parametrize("kind", STEPS)
def test_without_locks_a_step_says_so_and_does_nothing(
    undisturbed: Undisturbed, server: Server, tmp_path: Path, kind: str, error: str
) -> None:
    undisturbed.restore(kind)
    words, root = undisturbed.jobs.words(kind), undisturbed.jobs.root
    line = said_in_one_line(server.run(words, root, Fault(lock=error), tmp_path))
    assert "lock" in line
    assert str(root) in line
    assert content_of(root) == content_of(undisturbed.folder / kind)
    assert server.run(words, root, Fault(), tmp_path).status == 0
    assert differences(content_of(root), undisturbed.content[kind]) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that grows in a test: 300 KB at first."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("only root can mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_quota_is_named_and_a_larger_one_continues(tiny_run: FinishedRun, program: Program, small_disk: Path) -> None:
    """The quota is reached again and again, in whatever step; each time it is raised a little."""
    rng, reached = random.Random(SEED), list[float]()  # KB
    while len(reached) < TRIES:
        size = rng.uniform(300, 900)
        subprocess.run(["mount", "-o", f"remount,size={size:.0f}k", str(small_disk)], check=True)
        while (process := program("run", *TINY, f"root={small_disk}/runs")).returncode != 0:
            line = error_line(process)
            assert "No space left on device" in line
            assert str(small_disk) in line
            reached.append(size)
            size *= rng.uniform(1.1, 1.6)
            assert size < MORE_THAN_A_RUN_KB, reached
            subprocess.run(["mount", "-o", f"remount,size={size:.0f}k", str(small_disk)], check=True)
        assert differences(content_of(small_disk / "runs"), content_of(tiny_run.folder / "runs")) == [], reached
        shutil.rmtree(small_disk / "runs")
    print(f"FAULT_SEED={SEED}: reached at {', '.join(f'{size:.0f}' for size in reached)} KB")


def test_a_finished_root_is_shown_elsewhere_and_read_only(
    tiny_run: FinishedRun, program: Program, small_disk: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    shutil.copytree(tiny_run.folder / "runs", small_disk / "moved")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    shown = program("run", *TINY, f"root={small_disk}/moved")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.split("\ntable")[0] in tiny_run.stdout  # places follow
    (tune,) = (small_disk / "moved" / "tune").glob("*")
    assert program("generate", f"generator={tune}", "num_threads=1").returncode == 0
    longer = program("run", *TINY, "recipe.tune.steps=9", f"root={small_disk}/moved")
    assert "Read-only file system" in error_line(longer)


def test_many_at_the_same_moment_do_every_step_once(
    tiny_run: FinishedRun, start_program: StartProgram, tmp_path: Path
) -> None:
    """Or nearly: two of three do the same experiment, the third shares its zoo and stage 1."""
    rng, alone = random.Random(SEED), content_of(tiny_run.folder / "runs")
    for first in range(0, TRIES, AT_ONCE):
        started = []
        for index in range(AT_ONCE):
            started.append(start_program("run", *TINY, f"recipe.tune.steps={8 + index % 2}"))
            time.sleep(rng.choice([0, rng.uniform(0, MOST_APART_S)]))
        ended = [process.communicate() for process in started]
        assert [process.poll() for process in started] == [0] * AT_ONCE, ended
        finished = content_of(tmp_path / "runs")
        differing = [name for name in differences(alone, finished) if name in alone and not name.startswith("sweeps")]
        assert differing == [], f"FAULT_SEED={SEED}, runs {first} to {first + AT_ONCE - 1}"
        assert len(list((tmp_path / "runs").glob("*/*/DONE"))) == 9  # reference, classical, inject, two of the others
        shutil.rmtree(tmp_path / "runs")


@pytest.mark.parametrize("minutes", [-30, 30])
def test_a_sign_of_life_by_another_clock_is_no_end(tmp_path: Path, minutes: int) -> None:
    """The heartbeat is a time of the file server's, the start one of the node's; both may differ from ours."""
    queue = Queue(tmp_path)
    record = replace(new_record("batch", "tune", [("tune-1", "x", Path("/x"))]), job_id="7")
    queue.write(record)
    log = AttemptLog(queue.batch_folder("batch"), 0)
    log.write(log.attempt)
    (note,) = queue.batch_folder("batch").glob("attempt-*.json")
    os.utime(note, (time.time() + 60 * minutes,) * 2)
    state, reason = state_of(record, "tune-1", QueueView(queue, Answer({}, {}, None, "silence")))
    assert state == (State.RUNNING if minutes > 0 else State.UNKNOWN), reason
    assert "-" not in reason.partition("ago")[0]
