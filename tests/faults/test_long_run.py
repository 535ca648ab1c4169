"""A long run takes no more memory and no more open files at its end than at its beginning."""

from __future__ import annotations

import re
import time
from pathlib import Path
from statistics import median

import pytest

from neurogen.training.history import read_rows
from tests.conftest import TINY, StartProgram, folders
from tests.faults.conftest import TRIES

pytestmark = pytest.mark.faults
STEPS = max(200, 40 * TRIES)
MOST_BYTES_PER_STEP = 20_000  # a tensor of the tiny backbone that stays each step would be more


def test_memory_and_open_files_do_not_grow(start_program: StartProgram, tmp_path: Path) -> None:
    words = [*TINY, f"recipe.inject.steps={STEPS}", "only=[reference,inject]", "checkpoint_every=20"]
    process, seen = start_program("run", *words), list[tuple[int, int]]()
    while process.poll() is None:
        about = Path(f"/proc/{process.pid}")
        try:
            (kilobytes,) = re.findall(r"VmRSS:\s+(\d+)", (about / "status").read_text(encoding="utf-8"))
            num_open = len(list((about / "fd").iterdir()))
        except (OSError, ValueError):  # it has ended
            continue
        if list((tmp_path / "runs").glob("inject/*/checkpoints/step-*")):
            seen.append((1024 * int(kilobytes), num_open))
        time.sleep(0.05)
    assert process.wait() == 0, process.output()
    quarter = len(seen) // 4
    early, late = seen[quarter : 2 * quarter], seen[-quarter:]
    growth = median(size for size, _ in late) - median(size for size, _ in early)
    per_step = growth / (STEPS * 5 / 8)  # from the middle of the second quarter to that of the last
    files = median(count for _, count in late) - median(count for _, count in early)
    print(f"{STEPS} steps: {per_step:.0f} bytes of memory and {files / STEPS:.4f} open files more a step")
    assert len(list(read_rows(folders(tmp_path / "runs")["inject"] / "checkpoints/history.jsonl"))) == STEPS + 1
    assert per_step < MOST_BYTES_PER_STEP
    assert files < 5
