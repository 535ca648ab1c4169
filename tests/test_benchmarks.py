"""The GPU benchmark, tried on a CPU: it finds what it needs of the program, and writes what can be read."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

from benchmarks import gpu, tables

CHECKOUT = Path(__file__).parents[1]
NINE_MINUTES = 540


def benchmark(out: Path, *sections: str, slack: float = 5) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "benchmarks/gpu.py", *sections],
        cwd=CHECKOUT,
        env=os.environ | {"DEVICE": "cpu", "SLACK": str(slack), "OUT": str(out)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_sections_measure_and_write_tables(tmp_path: Path) -> None:
    process = benchmark(tmp_path, "zoo", "zero none")
    assert process.returncode == 0, process.stdout + process.stderr + (tmp_path / "gpu.log").read_text()
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert list(results) == ["zoo", "zero none"]
    ways = {"now": results["zoo"]["now"], "deterministic": results["zoo"]["deterministic"], **results["zoo"]["ways"]}
    assert set(ways) == {"now", "deterministic", "one after the other", "vmap"}
    assert all(0 < timing["min_s"] <= timing["median_s"] <= timing["max_s"] for timing in ways.values())
    losses = results["zero none"]["losses"]
    assert len(losses) == 7
    assert all(math.isfinite(loss) for loss in losses)
    written = (tmp_path / "gpu.md").read_text()
    assert "| vmap |" in written
    assert "## ZeRO on one GPU" in written
    assert "failed" not in written


def test_a_section_is_ended_at_its_limit(tmp_path: Path) -> None:
    process = benchmark(tmp_path, "machine", slack=1e-3)
    assert process.returncode == 1
    assert json.loads((tmp_path / "gpu.json").read_text())["machine"]["exit"] == gpu.OVER_TIME
    assert "| machine | over its time limit |" in (tmp_path / "gpu.md").read_text()


def test_an_unknown_section_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    process = benchmark(tmp_path, "speed")
    assert process.returncode == 2
    assert "there is no section 'speed'; allowed: machine, whole image" in process.stderr.splitlines()[-1]


def test_all_sections_end_within_nine_minutes() -> None:
    together = max(section.limit_s for section in gpu.TOGETHER)
    assert together + sum(section.limit_s for section in gpu.ALONE) <= NINE_MINUTES


def test_what_a_section_reported_before_it_was_ended_is_in_the_tables() -> None:
    speed = {"n": 5, "step_s": 0.2, "min_s": 0.1, "max_s": 0.3, "tokens_per_s": 900.4, "memory_gb": 16, "mfu": 0.0232}
    result = {"tune": speed, "losses": [2.0, 1.0], "exit": gpu.OVER_TIME, "seconds": 60.0}
    written = tables.markdown({"zero stage3": result})
    assert "| stage3 | 0.200 | 0.100 – 0.300 | 5 | 900 | 16.00 | 2.3 % | 1.0000 |" in written
    assert "| zero stage3 | over its time limit | 60 |" in written
