"""Two accounts submit overlapping sweeps over one shared root at the same moment, as docs/cluster.md says how."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.lab.lab import Lab
from tests.conftest import FinishedRun
from tests.faults.conftest import SELDOM
from tests.slurm.conftest import clear_queue, differing_steps, jobs_of, submission, wait_for

pytestmark = [pytest.mark.faults, SELDOM]
OTHER = "nobody"  # an account that every machine has
AT_ONCE = 20
STEPS = (8, 8, 9, 10)  # of stage 2: both accounts want the first experiment, and each has one of its own


@pytest.fixture
def open_to_all(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that both accounts may enter, with what the other one needs: a home, and a SLURM beside the tests'."""
    if subprocess.run(["runuser", "-u", OTHER, "--", "test", "-x", os.path.realpath(sys.executable)]).returncode:
        pytest.skip(f"the account {OTHER} may not run {sys.executable}, so nobody else can submit")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    for name, mode in (("home", 0o755), ("runs", 0o3775), ("runs/queue", 0o3775)):  # g+ws,+t
        (folder / name).mkdir()
        shutil.chown(folder / name, OTHER if name == "home" else None, "nogroup")
        (folder / name).chmod(mode)
    cluster = Lab(folder / "lab", nodes=2)
    cluster.start()
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    yield folder
    clear_queue()
    cluster.stop()
    shutil.rmtree(folder)


def test_two_accounts_submit_at_the_same_moment(open_to_all: Path, tiny_run: FinishedRun) -> None:
    """Every step has one job, and every account can read the results. The same command again submits nothing."""
    root, setup = open_to_all / "runs", "cluster.setup=['umask 002']"
    before = ["runuser", "-u", OTHER, "--"]
    environment = {"HOME": f"{open_to_all}/home"}
    hows = [
        submission(
            open_to_all, setup, f"recipe.tune.steps={STEPS[index % 4]}", before=before * (index % 2), **environment
        )
        for index in range(AT_ONCE)
    ]
    running = [subprocess.Popen(**how, umask=0o002) for how in hows]
    texts = [process.communicate(timeout=600) for process in running]
    assert [process.returncode for process in running] == [0] * AT_ONCE, texts
    wait_for("the tables", lambda: len(list(root.glob("sweeps/*/DONE"))) == 3 and not jobs_of(root), patience_s=600)
    records = [json.loads(path.read_text()) for path in root.glob("queue/*/record.json")]
    assert set(Counter(step for record in records for step in record["steps"]).values()) == {1}
    assert {path.owner() for path in root.glob("queue/*/record.json")} == {"root", OTHER}
    assert [name for name in differing_steps(root, tiny_run) if not name.startswith(("tune", "evaluate"))] == []
    for how in hows[:4]:
        again = subprocess.run(**how, timeout=300, check=False, umask=0o002)
        assert again.returncode == 0, again.stderr
        assert "submitted" not in again.stdout.replace("0 submitted", ""), again.stdout
