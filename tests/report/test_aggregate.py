"""`python -m neurogen.aggregate` as a command: its help at once, its errors in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import Program, error_line


def test_help_needs_none_of_the_heavy_packages() -> None:
    """So it is there at once; and so is a plan, which imports the module."""
    heavy = "{'torch', 'matplotlib', 'jinja2', 'omegaconf'} & set(sys.modules)"
    program = (
        "import sys, neurogen.aggregate\n"
        "sys.argv = ['aggregate', '--help']\n"
        "try: neurogen.aggregate.main()\n"
        f"except SystemExit as stop: assert stop.code == 0 and not {heavy}, {heavy}\n"
        "else: raise AssertionError('it goes on after its help')\n"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "ROOT/sweeps/NAME" in process.stdout


def test_a_folder_that_is_no_sweep_is_refused_in_one_line(program: Program, tmp_path: Path) -> None:
    line = error_line(program("aggregate", str(tmp_path)))
    assert f"{tmp_path} holds no configs/*.yaml; give the folder of a sweep" in line
    nothing = program("aggregate")
    assert nothing.returncode == 2
    assert "the following arguments are required: sweep" in nothing.stderr
