"""A command outlives its terminal, its pipe, the disk of its log, and a locale that lacks a sign."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TINY, FinishedRun

PRINT = """
import os, sys
from neurogen.streams import make_lasting
make_lasting()
for line in range(5000):
    print("97.60 ± 0.30 … é ┏ \\udcfc", line)
print(os.environ.get("COLUMNS"), file=sys.stderr)
"""


def shell(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """`$PRINT` is a program of many lines, `$RUN` a finished run; `$STATUS` in the output is the program's own."""
    variables = {"PRINT": PRINT, "RUN": " ".join(["-m", "neurogen.run", *TINY]), "PYTHON": sys.executable}
    inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=inherited | variables | environment, capture_output=True, check=False
    )


@pytest.mark.parametrize(
    ("script", "stderr"),
    [
        ('"$PYTHON" -c "$PRINT" | head -1; exit ${PIPESTATUS[0]}', b"None\n"),
        ('"$PYTHON" -u -c "$PRINT" | head -1; exit ${PIPESTATUS[0]}', b"None\n"),
        ('"$PYTHON" -c "$PRINT" 2>&1 | head -1; exit ${PIPESTATUS[0]}', b""),
        ('"$PYTHON" -c "$PRINT" >&-', b"None\n"),
        ('"$PYTHON" -c "$PRINT" >&- 2>&-', b""),
        ('"$PYTHON" -c "$PRINT" 2> /dev/full > /dev/full', b""),
        (
            '"$PYTHON" -c "$PRINT" > /dev/full',
            b"warning: stdout cannot be written (No space left on device); going on\nNone\n",
        ),
    ],
)
def test_a_stream_that_takes_nothing_ends_no_command(tmp_path: Path, script: str, stderr: bytes) -> None:
    process = shell(script, tmp_path)
    assert (process.returncode, process.stderr) == (0, stderr)


@pytest.mark.parametrize(
    ("encoding", "line"),
    [
        ("utf-8", "97.60 ± 0.30 … é ┏ ".encode() + b"\xfc 0"),
        ("iso-8859-1", b"97.60 \xb1 0.30 ... \xe9 ? \xfc 0"),
        ("ascii", b"97.60 +- 0.30 ... e ? \xfc 0"),
        ("shift_jis", "97.60 ± 0.30 … e ┏ ".encode("shift_jis") + b"\xfc 0"),
    ],
)
def test_a_sign_that_cannot_be_shown_is_shown_as_others(tmp_path: Path, encoding: str, line: bytes) -> None:
    process = shell('"$PYTHON" -c "$PRINT" | head -1', tmp_path, PYTHONIOENCODING=encoding)
    assert process.stdout == line + b"\n"


@pytest.mark.parametrize(
    ("columns", "kept"), [("abc", "None"), ("0", "None"), ("", "None"), ("-5", "None"), ("40", "40")]
)
def test_what_is_no_width_is_no_width(tmp_path: Path, columns: str, kept: str) -> None:
    process = shell('"$PYTHON" -c "$PRINT" > /dev/null', tmp_path, COLUMNS=columns)
    assert process.stderr.decode() == f"{kept}\n"


def test_a_table_in_another_locale_has_lines_of_ascii(tiny_run: FinishedRun) -> None:
    shown = shell('"$PYTHON" $RUN', tiny_run.folder, PYTHONIOENCODING="iso-8859-1")
    assert shown.returncode == 0, shown.stderr
    text = shown.stdout.decode("iso-8859-1")
    assert "| classical training " in text
    assert " ± " in text
    assert "?" not in text


@pytest.mark.parametrize("columns", ["0", "abc", "1"])
def test_a_table_is_shown_whatever_columns_says(tiny_run: FinishedRun, columns: str) -> None:
    shown = shell('"$PYTHON" $RUN', tiny_run.folder, COLUMNS=columns)
    assert shown.returncode == 0, shown.stderr
    if columns != "1":
        assert shown.stdout.decode() == tiny_run.table


def test_a_run_goes_on_when_nobody_reads(tiny_run: FinishedRun) -> None:
    shown = shell('"$PYTHON" $RUN | head -1; exit ${PIPESTATUS[0]}', tiny_run.folder)
    assert (shown.returncode, shown.stderr) == (0, b"")
