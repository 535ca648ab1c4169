"""Labs beside each other on one machine."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from slurm.lab.lab import Lab


def test_two_labs_that_start_at_once_have_ports_of_their_own(lab: Lab, tmp_path: Path) -> None:
    labs = [Lab(tmp_path / name) for name in ("first", "second")]
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Lab.start, labs))
        for other in labs:
            environment = os.environ | other.environment
            process = subprocess.run(["srun", "-N2", "true"], env=environment, timeout=60, check=False)
            assert process.returncode == 0
    finally:
        for other in labs:
            other.stop()
