"""What a process may still take where control groups limit it, as SLURM limits its jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from neurogen.training import memory

JOB = "slurm/uid_7/job_9"
VERSIONS = {
    "1": (f"4:cpu:/{JOB}\n7:memory,hugetlb:/{JOB}/step_0", "memory", "memory.limit_in_bytes"),
    "2": (f"0::/{JOB}/step_0", "", "memory.max"),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_limit_of_a_job_counts(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is that of a group above."""
    groups, top, name = VERSIONS[version]
    (tmp_path / "own").write_text(f"{groups}\n")
    step = tmp_path / top / JOB / "step_0"
    step.mkdir(parents=True)
    (step / name).write_text("max\n" if version == "2" else f"{2**63 - 4096}\n")
    (step.parent / name).write_text("4096\n")
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    assert memory.free_memory(torch.device("cpu")) == 4096
    (step.parent / name).unlink()
    free = memory.free_memory(torch.device("cpu"))
    assert free is not None
    assert free > 2**20
