"""The lab's folder: what `start` refuses to remove, and which processes `stop` leaves alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slurm.lab.lab import Lab, LabError, start_of


def test_a_folder_that_is_no_lab_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lab, "missing", [])
    (tmp_path / "run").mkdir()
    with pytest.raises(LabError, match="is not empty, and no lab was there"):
        Lab(tmp_path).start()
    assert (tmp_path / "run").is_dir()


def test_stop_ends_only_what_start_started(tmp_path: Path) -> None:
    """The system gives the same pid to a later process."""
    (tmp_path / "run").mkdir()
    started = int(start_of(os.getpid()))
    (tmp_path / "run" / "slurmctld.pid").write_text(f"{os.getpid()} {started - 1}")
    Lab(tmp_path).stop()  # or this test would end here
    assert not list((tmp_path / "run").iterdir())
