"""Whatever the locale: files are read and written as UTF-8."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("neurogen", "hpc", "hydra_plugins", "benchmarks", "slurm", "docs")
PROGRAMS = sorted(path for name in FOLDERS for path in (ROOT / name).rglob("*.py"))
NOT_FILES = {"Image", "os", "tarfile"}  # modules whose `open` reads no text


def without_encoding(source: str) -> Iterator[int]:
    """The lines of calls that read or write text, of a file or of another program, in the locale's encoding.

    Ruff's rule PLW1514 sees a call only where it knows that the object is a path.
    """
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, (ast.Attribute, ast.Name)):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        given = {keyword.arg for keyword in node.keywords}
        mode = next((arg.value for arg in node.args if isinstance(arg, ast.Constant)), "r")
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        is_open = name == "open" and "b" not in str(mode) and getattr(owner, "id", "") not in NOT_FILES
        is_text = name in ("read_text", "write_text") and owner is not None and getattr(owner, "id", "") != "store"
        if (is_open or is_text or "text" in given) and "encoding" not in given:
            yield node.lineno


def test_text_has_an_encoding() -> None:
    lines = {path: list(without_encoding(path.read_text(encoding="utf-8"))) for path in PROGRAMS}
    assert {str(path): where for path, where in lines.items() if where} == {}


def test_the_guard_sees_what_it_is_to_see() -> None:
    for line in ("path.read_text()", "path.open('w')", "path.write_text('')", "run([], text=True)", "open('name')"):
        assert list(without_encoding(line)) == [1], line
    for line in ("path.open('rb')", "store.write_text(path, '')", "Image.open(path)", "run([])", "path.read_bytes()"):
        assert list(without_encoding(line)) == [], line
