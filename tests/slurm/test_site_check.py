"""A site that is broken in several ways, and what its check says of it. Nothing else of a sweep begins there.

The second node has a network and a mount table of its own. It does not see one folder, and cannot reach the ports where
ranks meet; a prolog gives it another version of torch while a flag is set.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution, version
from pathlib import Path

import pytest

from slurm.lab.lab import Lab
from tests.slurm.conftest import HELD, active, clear_queue, reasons, release, steps, submission, wait_for
from tests.slurm.test_ranks import NODES

TWO_NODES = [*NODES, "zero=stage2", "recipe.inject.contexts_per_step=2", "recipe.tune.contexts_per_step=2"]
CHECKED = ["site_check=true"]
OTHER_TORCH = "0.0.1"


@dataclass(frozen=True)
class BrokenSite:
    """Folders that are wrong in some way, and a flag."""

    hidden: Path  # from n2
    small: Path  # a file system of a few megabytes
    old_torch: Path  # while this exists, n2 has another version of torch


@pytest.fixture(scope="module")
def broken(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokenSite]:
    """The running site; until the end of the module it takes the place of the sound one."""
    base = tmp_path_factory.mktemp("broken")
    site = BrokenSite(base / "hidden", base / "small", base / "old_torch")
    site.hidden.mkdir()
    site.small.mkdir()
    prolog = base / "prolog.sh"
    prolog.write_text(
        f'#!/bin/sh\nif [ "$SLURMD_NODENAME" = n2 ] && [ -e {site.old_torch} ]; then\n'
        f'echo "export PYTHONPATH={other_torch(base)}:$PYTHONPATH"\nfi\n'
    )
    prolog.chmod(0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(site.small)], check=True)
    settings = [f"TaskProlog={prolog}"]
    cluster = Lab(base / "lab", hidden={"n2": str(site.hidden)}, blocked={"n2": "20000-31999"}, settings=settings)
    sound = os.environ["SLURM_CONF"]
    try:
        cluster.start()
        os.environ.update(cluster.environment)
        yield site
    finally:
        os.environ["SLURM_CONF"] = sound
        cluster.stop()
        subprocess.run(["umount", str(site.small)], check=True)


def other_torch(folder: Path) -> Path:
    """A folder with the metadata of torch in another version."""
    metadata = distribution("torch").read_text("METADATA")
    assert metadata is not None
    place = folder / "site-packages" / f"torch-{OTHER_TORCH}.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(metadata.replace(f"\nVersion: {version('torch')}", f"\nVersion: {OTHER_TORCH}", 1))
    return place.parent


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(**submission(folder, *arguments), timeout=300, check=False)


def refused(root: Path) -> str:
    """Why a check failed, once no other step waits or runs; none has begun. Other checks need not end."""
    (folder,) = (root / "sweeps").iterdir()
    wait_for("a check that fails", lambda: "check" in reasons(folder), patience_s=120)
    wait_for("the end of what hangs on it", lambda: all("ng-check" in line for line in active()))
    assert not [path for path in root.glob("queue/*/attempt-*") if "ng-check" not in path.parent.name]
    shown = steps(folder)
    (check,) = (step for step in shown if step["kind"] == "check" and step["state"] == "failed")
    others = [step for step in shown if step["kind"] != "check"]
    assert {step["state"] for step in others} == {"failed"}, shown
    assert all(check["identity"] in step["reason"] for step in others), shown
    clear_queue()
    return str(check["reason"])


def test_a_root_that_a_node_does_not_see(broken: BrokenSite) -> None:
    assert run(broken.hidden, *CHECKED, *TWO_NODES).returncode == 0
    root = broken.hidden / "runs"
    assert refused(root) == f"n2: does not see {root}; put root= on a file system that all nodes have"


def test_another_version_of_a_library(broken: BrokenSite, tmp_path: Path) -> None:
    """The waiting command ends with the reason."""
    broken.old_torch.touch()
    try:
        process = run(tmp_path, *CHECKED, *TWO_NODES, "hydra.launcher.wait=true")
    finally:
        broken.old_torch.unlink()
    reason = f"n2: has torch {OTHER_TORCH} (submitted with {version('torch')})"
    assert process.returncode == 1
    assert f"error: the site check failed: {reason}" in process.stderr, process.stderr
    assert refused(tmp_path / "runs").startswith(reason)


def test_gpus_that_torch_does_not_see(broken: BrokenSite, tmp_path: Path) -> None:
    """The lab's GPUs are device files that lead nowhere."""
    assert run(tmp_path, *CHECKED, "+cluster.steps.tune.gpus_per_node=2").returncode == 0
    assert re.match(r"n\d: torch sees 0 of the 2 GPUs that were asked for \(CUDA_VISIBLE", refused(tmp_path / "runs"))


def test_a_disk_that_is_full(broken: BrokenSite) -> None:
    """It is, between the submission and the check, which says so all the same."""
    assert run(broken.small, *CHECKED, HELD).returncode == 0
    subprocess.run(["dd", "if=/dev/zero", f"of={broken.small}/filler", "bs=4k"], capture_output=True, check=False)
    assert shutil.disk_usage(broken.small).free == 0
    release()
    root = broken.small / "runs"
    assert re.match(rf"n\d: cannot write below {root} \(No space left on device\); free space", refused(root))


def test_a_node_that_cannot_be_reached(broken: BrokenSite, tmp_path: Path) -> None:
    """The check alone, which waits by itself and submits nothing else."""
    arguments = submission(tmp_path, *TWO_NODES)
    arguments["args"] = [sys.executable, "-m", "neurogen", "check", *arguments["args"][4:]]
    process = subprocess.run(**arguments, timeout=300, check=False)
    assert process.returncode == 1
    assert re.search(r"error: the site check failed: n2: does not reach rank 0 at 10\.[\d.]+:\d+", process.stderr), (
        process.stderr
    )
    assert re.search(r"n1 +1 +none .*failed: meeting *\n.*n2 +1 +none .*failed: meeting", process.stdout), (
        process.stdout
    )
    assert {path.parent.name.split("-")[1] for path in (tmp_path / "runs").glob("queue/*/record.json")} == {"check"}
