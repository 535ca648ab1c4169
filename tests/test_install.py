"""The same program after `pip install .`, from any folder, with conf/ in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]


def test_an_installed_copy_composes_from_any_folder(tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--target", site, "."]
    copy = tmp_path / "checkout"  # so that no build folder appears in the real one
    copy.mkdir()
    for name in ("neurogen", "hpc", "hydra_plugins", "conf", "setup.cfg", "pyproject.toml", "README.md"):
        source = CHECKOUT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
    subprocess.run([*install, "--quiet"], cwd=copy, check=True)
    program = [sys.executable, "-c", "import neurogen.run; print(neurogen.run.__file__); neurogen.run.main()"]
    shown = subprocess.run(
        [*program, "dataset=digits", "target=cnn_small", "--cfg", "job"],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    first, *rest = shown.stdout.splitlines()
    assert first.startswith(str(site))
    assert "  name: digits" in rest
    templates = site / "neurogen" / "report" / "templates"
    assert {path.name for path in templates.iterdir()} == {"report.html", "report.css"}
    command = subprocess.run(
        [sys.executable, site / "bin" / "neurogen", "run", "dataset=digits", "target=cnn_small", "--cfg", "job"],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert command.stdout.splitlines() == rest
