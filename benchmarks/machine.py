"""Section `machine`: what the benchmark runs on."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.setting import ON_GPU, report
from neurogen import store


def measure(folder: Path, case: str) -> None:
    """What identifies the machine and its software."""
    driver = None
    if ON_GPU:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(
            query, capture_output=True, encoding="utf-8", errors="replace", check=True
        ).stdout.split()[0]
    report(**{name: value for name, value in store.environment().items() if name != "host"}, driver=driver)
