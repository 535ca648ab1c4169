"""Signals to processes that wait: for other ranks, or for nothing that will ever come."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.hpc.forked import free_port
from tests.programs import Forked

pytestmark = pytest.mark.xdist_group("ranks")  # with the other tests of ranks, for the libraries that they imported
WORDS = [*TINY, "zero=stage2", "recipe.inject.contexts_per_step=2", "recipe.tune.contexts_per_step=2"]
STEPS = ["recipe.inject.steps=3000", "recipe.inject.validate_every=3000", "checkpoint_every=1000"]


def test_a_second_sigterm_ends_a_rank_whose_partner_hangs(tmp_path: Path) -> None:
    """Rank 1 is frozen in stage 1, so that rank 0 stands in a collective, where Python runs no handler."""
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    first, second = (
        Forked(["neurogen.run", *WORDS, *STEPS], tmp_path, os.environ | meeting | {"RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    )
    try:
        while not list(tmp_path.glob("runs/inject/*/events*")):
            assert first.poll() is None, first.output()
            time.sleep(0.05)
        second.send_signal(signal.SIGSTOP)
        time.sleep(2)  # rank 0 ends the step that it is in, and waits
        first.terminate()
        while "saving, then stopping" not in first.output()[1]:
            assert first.poll() is None, first.output()
            time.sleep(0.05)
        assert first.poll() is None  # it waits for rank 1, so that both save
        first.terminate()
        assert first.wait(timeout=30) == 128 + signal.SIGTERM
    finally:
        second.send_signal(signal.SIGKILL)
        first.send_signal(signal.SIGKILL)
        second.wait()


JOB = """
import sys, threading
from hpc.jobs import job
job.SIGNALS_ARRIVE_WITHIN_S = float(sys.argv[1])
job.Signals().listen()
print("listening", flush=True)
threading.Event().wait()  # a step that saves without end
"""


@pytest.mark.parametrize(
    ("within_s", "sent", "ends"),
    [
        ("0", [signal.SIGTERM, signal.SIGTERM], True),
        ("0", [signal.SIGUSR2, signal.SIGTERM, signal.SIGTERM], True),
        ("0", [signal.SIGUSR2, signal.SIGTERM], False),  # SLURM sends both at a time limit: the step still saves
        ("600", [signal.SIGTERM, signal.SIGTERM], False),  # one request, which srun passed on
    ],
)
def test_a_job_saves_after_the_first_request_and_ends_after_the_second(
    within_s: str, sent: list[signal.Signals], ends: bool
) -> None:
    command = [sys.executable, "-c", JOB, within_s]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        for number in sent[: -1 if ends else None]:
            process.send_signal(number)
            assert process.stdout.readline() == f"signal {number.name}: saving, then stopping\n"
        if ends:
            process.send_signal(sent[-1])
            assert process.wait(timeout=30) == 128 + sent[-1]
        process.kill()
