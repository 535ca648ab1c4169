"""What runs on a node, without a node."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from hpc.jobs.attempts import attempts_of
from hpc.jobs.payload import Payload
from neurogen.program import settings_of
from tests.hpc.conftest import PROGRAM, Composed, sweep_of


def test_a_signal_in_the_first_second_is_heard(experiment: Composed, tmp_path: Path) -> None:
    """While the payload is loaded, and torch with it: it is noted as out of time, not as killed."""
    sweep = dataclasses.replace(sweep_of(experiment, tmp_path), runtime=settings_of(experiment()))
    Payload.of(sweep, [sweep.steps[0]], max_requeues=0).write(tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    process = subprocess.Popen([sys.executable, "-m", "hpc", PROGRAM, str(tmp_path), "0"], env=environment)
    caught = 0
    while not caught & 1 << signal.SIGUSR2 - 1:
        assert process.poll() is None
        state = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        caught = int(re.findall(r"SigCgt:\s*(\w+)", state)[0], 16)
    assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")
    process.send_signal(signal.SIGUSR2)
    assert process.wait(timeout=120) == 124
    (attempt,) = attempts_of(tmp_path, 0)
    assert (attempt.exit_status, attempt.message) == (124, "out of time")
