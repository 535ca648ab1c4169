"""Of a log only the end is read, whatever its size."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc.jobs.check_report import MOST_BYTES_SAID, said
from hpc.jobs.diagnosis import _log_shows_out_of_memory
from hpc.jobs.logs import MOST_BYTES, last_lines

GIGABYTE = 2**30


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A log of a gigabyte, most of it one line that takes no room on the disk; then three others."""
    log = tmp_path / "log"
    with log.open("wb") as file:
        file.truncate(GIGABYTE)
        file.seek(0, 2)
        file.write("\nstep 1\rstep 2\n0: error: n1: no GPU; größer\n".encode())
        file.write(b"slurmstepd: error: Detected 1 oom_kill event\n")
    return log


@pytest.fixture
def peak() -> Iterator[None]:
    """Fails where more memory was taken than a few ends of logs take."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * MOST_BYTES_SAID


@pytest.mark.usefixtures("peak")
def test_the_end_of_a_gigabyte(large: Path) -> None:
    assert last_lines(large)[-4:] == [
        "step 1",
        "step 2",
        "0: error: n1: no GPU; größer",
        "slurmstepd: error: Detected 1 oom_kill event",
    ]
    assert said(large) == {0: ("n1", "no GPU; größer")}
    assert _log_shows_out_of_memory(large)


def test_of_a_line_that_is_cut_there_is_only_the_end(tmp_path: Path) -> None:
    """A rank's number would be another one."""
    log = tmp_path / "log"
    line = "12: error: n2: x\n"
    log.write_text(line * 3000, encoding="utf-8")
    lines = last_lines(log)
    assert set(lines) == {line.strip()}
    assert len(lines) == MOST_BYTES // len(line)
    log.write_text("a" * 3 * MOST_BYTES, encoding="utf-8")
    assert last_lines(log) == ["a" * MOST_BYTES]
    log.write_text("a\nb", encoding="utf-8")
    assert last_lines(log) == ["a", "b"]
    assert last_lines(tmp_path / "none") == []
