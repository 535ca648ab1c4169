"""The chain of sbatch templates, with a small script in the place of sbatch."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SBATCH = """#!/bin/sh
echo "$@" >> $0.calls
[ $(wc -l < $0.calls) -ne ${FAILS:-0} ] || { echo "sbatch: error: Invalid account" >&2; exit 1; }
echo "$((100 + $(wc -l < $0.calls)))$CLUSTER"
"""


def sweep(folder: Path, **variables: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """How slurm/sweep.sh ends, and the words of every call of sbatch."""
    shutil.copytree(REPOSITORY / "slurm", folder / "slurm", ignore=shutil.ignore_patterns("lab"))
    (folder / "bin").mkdir()
    for name, text in (("sbatch", SBATCH), ("python", "#!/bin/sh\n")):
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "NEUROGEN_"))}
    environment |= {"NEUROGEN_VENV": str(folder), "NEUROGEN_TUNE_SBATCH": "--nodes=2"} | variables
    process = subprocess.run(
        ["slurm/sweep.sh"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return process, (folder / "bin" / "sbatch.calls").read_text().splitlines()


@pytest.mark.parametrize("cluster", ["", ";gpuc"])
def test_dependencies_are_ids_alone(tmp_path: Path, cluster: str) -> None:
    """With SLURM_CLUSTERS sbatch prints the cluster behind the id."""
    process, calls = sweep(tmp_path, CLUSTER=cluster)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == "checks 101 102\nnetworks 103, stages 104, table 105\n"
    waits = [[word for word in call.split() if word.startswith("--dependency")] for call in calls]
    expected = ["afterok:101:102", "afterok:103:102", "afterok:104"]
    assert waits == [[], [], *([f"--dependency={jobs}"] for jobs in expected)]


def test_a_job_that_is_refused_ends_the_chain(tmp_path: Path) -> None:
    process, calls = sweep(tmp_path, FAILS="3")
    assert process.returncode == 1
    assert process.stderr == "sbatch: error: Invalid account\n"
    assert len(calls) == 3
