"""Section `machine`: what the benchmark runs on."""

from __future__ import annotations

from pathlib import Path

from benchmarks.setting import report
from benchmarks.stages import runtime_on
from neurogen.environment import environment


def measure(folder: Path, case: str) -> None:
    """What identifies the machine and its software."""
    runtime = runtime_on()
    about = environment(runtime.device, runtime.dtype)
    report(**{name: value for name, value in about.items() if name != "host"})
