"""Labs beside each other on one machine."""

from __future__ import annotations

import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slurm.lab import lab as labs
from slurm.lab.lab import Lab, free_ports

SLOW_S = 2.0  # between the choice of ports and the first daemon that listens


def test_two_labs_that_start_at_once_have_ports_of_their_own(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen_slowly(count: int) -> list[int]:
        ports = free_ports(count)
        time.sleep(SLOW_S)
        return ports

    monkeypatch.setattr(labs, "free_ports", chosen_slowly)
    both = [Lab(tmp_path / name) for name in ("first", "second")]
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Lab.start, both))
        ports = [re.findall(r"Port=(\d+)", (other.folder / "slurm.conf").read_text()) for other in both]
        assert set(ports[0]).isdisjoint(ports[1])  # SLURM itself would not notice: it asks whoever answers there
        for other in both:
            process = subprocess.run(
                ["srun", "-N2", "true"], env=os.environ | other.environment, timeout=60, check=False
            )
            assert process.returncode == 0
    finally:
        for other in both:
            other.stop()
