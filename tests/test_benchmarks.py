"""The benchmarks, tried on a CPU: they find what they need of the program, and write what can be read.

Sections that take long are marked `bench`, and run by `make test-bench` alone.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import golden, gpu, rows, tables
from benchmarks.parity import FORMATS
from benchmarks.setting import reported
from benchmarks.whole import CASES
from tests.conftest import FinishedRun
from tests.programs import run_forked

CHECKOUT = Path(__file__).parents[1]


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


def test_what_has_not_begun_in_time_is_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu.TOTAL_S == 540
    results = dict[str, dict[str, Any]]()
    gpu.run_together([gpu.Section("machine", 100)], tmp_path, 1, time.monotonic(), tmp_path, results)
    assert results == {"machine": {"exit": gpu.NOT_BEGUN, "seconds": 0.0}}
    assert "| machine | not begun in time | 0 |" in (tmp_path / "gpu.md").read_text()


def section(name: str, folder: Path) -> dict[str, Any]:
    """What a section reports on a CPU, where everything is tiny."""
    environment = os.environ | gpu.ENVIRONMENT | {"DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    process = run_forked(["benchmarks.section", str(folder), *name.split()], CHECKOUT, environment)
    assert process.returncode == 0, process.stderr
    assert "it runs as zero=none" not in process.stdout
    return reported(process.stdout)


@pytest.mark.bench
def test_the_same_work_again_is_equal_on_a_cpu(tmp_path: Path) -> None:
    result = section("resume default", tmp_path)
    assert result["stops"] == 2
    assert [result[part]["differ"] for part in ("zoo_again", "stages_again", "resumed")] == [0, 0, 0]


def test_losses_of_every_format_are_compared(tmp_path: Path) -> None:
    result = section("parity", tmp_path)
    assert set(FORMATS) < set(result)
    assert result["float32"]["largest"] == 0
    assert 0 < result["bfloat16"]["largest"] < 1


@pytest.mark.parametrize("case", [pytest.param("llama3_8b", marks=pytest.mark.bench), "qwen2_vl_7b"])
def test_large_backbones_are_measured_beside_their_bare_passes(tmp_path: Path, case: str) -> None:
    result = section(f"large {case}", tmp_path)
    assert {"dry_run", "inject", "inject_one_by_one", "tune", "profile"} < set(result)
    assert ("batch of 1, with the encoder" in result["passes"]) is (case == "qwen2_vl_7b")
    written = tables.markdown({f"large {case}": result | {"exit": 0, "seconds": 1.0}})
    assert "## Large backbones: a step against its bare pass" in written


@pytest.mark.parametrize(
    "case", ["stage2", *(pytest.param(case, marks=pytest.mark.bench) for case in CASES if case != "stage2")]
)
def test_the_program_runs_from_end_to_end(tmp_path: Path, case: str) -> None:
    result = section(f"whole {case}", tmp_path)
    assert all(value > 10 for value in result["generated_percent"])


@pytest.mark.bench
def test_every_stage_of_zero_gives_the_same_losses(tmp_path: Path) -> None:
    first, *others = (section(f"zero {case}", tmp_path / case) for case in ("none", "stage1", "stage2", "stage3"))
    assert "deterministic" in first
    assert all(other["losses"] == pytest.approx(first["losses"], rel=0.05) for other in others)


@pytest.mark.parametrize(("name", "num_rows"), [("steps", 5), pytest.param("demo", 3, marks=pytest.mark.bench)])
def test_the_program_is_measured_beside_its_arithmetic(tmp_path: Path, name: str, num_rows: int) -> None:
    measured = section(name, tmp_path)["rows"]
    assert len(measured) == num_rows
    assert all(row["ratio"] == pytest.approx(row["seconds"] / row["against_seconds"]) for row in measured)


def test_what_a_section_reported_before_it_was_ended_is_in_the_tables() -> None:
    speed = {"n": 5, "step_s": 0.2, "min_s": 0.1, "max_s": 0.3, "tokens_per_s": 900.4, "memory_gb": 16, "mfu": 0.0232}
    result = {"tune": speed, "losses": [2.0, 1.0], "exit": gpu.OVER_TIME, "seconds": 60.0}
    written = tables.markdown({"zero stage3": result})
    assert "| stage3 | 0.200 | 0.100 – 0.300 | 5 | 900 | 16.00 | 2.3 % | 1.0000 |" in written
    assert "| zero stage3 | over its time limit | 60 |" in written


def test_versions_are_compared_by_losses_and_bits(tiny_run: FinishedRun, tmp_path: Path) -> None:
    for name in ("inject", "tune"):
        shutil.copytree(tiny_run.folder / "runs" / name, tmp_path / name)
    same = golden.compare(tiny_run.folder / "runs", tmp_path)
    assert (same.largest, same.same_bits) == (0, True)
    assert same.num_losses > 16  # of eight steps of both stages, and validation
    (metrics,), (generator,) = tmp_path.glob("tune/*/metrics.json"), tmp_path.glob("tune/*/generator.safetensors")
    content = json.loads(metrics.read_text())
    next(row for row in content["history"] if "loss" in row)["loss"] *= 1.5
    metrics.write_text(json.dumps(content))
    generator.write_bytes(generator.read_bytes()[:-1] + b"?")
    other = golden.compare(tiny_run.folder / "runs", tmp_path)
    assert other.largest == pytest.approx(0.5)
    assert not other.same_bits


@pytest.mark.bench
@pytest.mark.parametrize(
    "words",
    [
        ["golden", str(CHECKOUT), str(CHECKOUT)],
        ["published_zoo", "--dataset", "mnist5k", "--networks", "2", "--pairs", "1"],
        ["targets", "--targets", "cnn_small"],
    ],
    ids=lambda words: words[0],
)
def test_programs_of_their_own(tmp_path: Path, words: list[str]) -> None:
    environment = os.environ | {"DEVICE": "cpu", "OUT": str(tmp_path)}
    process = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{words[0]}", *words[1:]],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    if words[0] == "golden":
        assert process.stdout.count(" yes ") == len(golden.CASES)
    else:
        assert json.loads((tmp_path / f"{words[0]}.json").read_text())["rows"]


def test_rows_are_written_with_what_they_were_measured_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUT", str(tmp_path))
    monkeypatch.setattr(rows, "DEVICE", "cpu")
    rows.publish("some", [rows.Row.of_pairs("this", "that", [(1.0, 2.0), (3.0, 4.0), (9.0, 3.0)])], num_threads=1)
    content = json.loads((tmp_path / "some.json").read_text())
    assert content["rows"] == [
        {"what": "this", "seconds": 3.0, "against": "that", "against_seconds": 3.0, "n": 3, "ratio": 0.75}
    ]
    assert content["num_threads"] == 1
    assert {"cpu", "cpu_cores", "commit", "versions"} < set(content)
