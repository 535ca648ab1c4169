"""Figures are drawn whatever MPLBACKEND says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

DRAW = """
import os, pathlib, sys
from neurogen.report import figures
figure, (axes,) = figures.panels(figures.WIDE, 1, height=2)
axes.plot([0, 1])
figures.save(figure, pathlib.Path(sys.argv[1]))
import matplotlib
print(os.environ["MPLBACKEND"], matplotlib.rcParams["backend"])
"""


@pytest.mark.parametrize("backend", ["module://a_notebook.backend_inline", "nonsense", "TkAgg", "svg"])
def test_a_figure_is_drawn(backend: str, tmp_path: Path) -> None:
    """In a new interpreter, as matplotlib reads the variable while it is imported."""
    command = [sys.executable, "-c", DRAW, str(tmp_path / "figure")]
    process = subprocess.run(
        command, env=os.environ | {"MPLBACKEND": backend}, capture_output=True, encoding="utf-8", check=False
    )
    assert process.returncode == 0, process.stderr
    assert Image.open(tmp_path / "figure.png").size[0] == 1300
    variable, chosen = process.stdout.split()
    assert variable == backend
    if backend == "svg":
        assert chosen == "svg"  # what is installed stays for the plots of the user's program
