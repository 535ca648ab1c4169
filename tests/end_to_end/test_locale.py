"""A whole run where the locale is not UTF-8, as on login nodes with LANG=en_US."""

from __future__ import annotations

import locale
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TINY, folders


def latin_1(folder: Path) -> dict[str, str]:
    """The variables of a real ISO-8859-1 locale, which is compiled into the folder."""
    if shutil.which("localedef") is None or not Path("/usr/share/i18n/locales/en_US").exists():
        pytest.skip("this machine cannot compile locales (localedef, /usr/share/i18n)")
    command = ["localedef", "--inputfile=en_US", "--charmap=ISO-8859-1", str(folder / "en_US")]
    subprocess.run(command, check=False, capture_output=True)  # it warns with a status of its own
    variables = {"LOCPATH": str(folder), "LC_ALL": "en_US", "LANG": "en_US"}
    program = [sys.executable, "-c", "import locale; print(locale.getpreferredencoding())"]
    known = subprocess.run(program, env=os.environ | variables, capture_output=True, encoding="ascii", check=True)
    assert known.stdout == "ISO-8859-1\n"
    return variables


def test_a_run_in_a_latin_1_locale_writes_utf_8(tmp_path: Path) -> None:
    assert locale.getpreferredencoding() == "UTF-8"  # this test's own, for the command line below
    variables = latin_1(tmp_path)
    words = [*TINY, "dataset.title='Zeichen für …'", "recipe.inject.steps=2", "recipe.tune.steps=2"]
    process = subprocess.run(
        [sys.executable, "-m", "neurogen.run", *words],
        cwd=tmp_path,
        env=os.environ | variables,
        capture_output=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert "| classical training " in process.stdout.decode("iso-8859-1")
    steps = folders(tmp_path / "runs")
    assert "Zeichen für …" in (steps["tune"] / "README.md").read_text(encoding="utf-8")
    assert "cnn" in (steps["sweeps"] / "report.html").read_text(encoding="utf-8")
    assert " ± " in (steps["sweeps"] / "results.md").read_text(encoding="utf-8")
