"""The identity of a user's own function: its source and all that it imports from the user's packages."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from py_compile import compile as compile_file

import pytest

from neurogen.errors import UserError
from neurogen.source import source_digest

MAIN_MODULE = '''
"""A loader."""
import numpy as np
from shapes.round import circle
from . import limits


def load(config):
    from shapes import square  # only when it is called

    def inner():
        return circle() + square.SIDE
    return inner() * limits.FACTOR
'''
FILES = {
    "mydata/__init__.py": "",
    "mydata/loaders.py": MAIN_MODULE,
    "mydata/limits.py": "FACTOR = 2\n",
    "mydata/other.py": "UNUSED = 1\n",
    "shapes/round.py": "def circle():\n    return 3\n",  # a package without __init__.py
    "shapes/square.py": "SIDE = 4\n",
    "shapes/triangle.py": "SIDES = 3\n",
}


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the Python path with the packages above, none of them imported."""
    folder = tmp_path / "library"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] in ("mydata", "shapes")]:
        del sys.modules[name]


def digest() -> str | None:
    importlib.invalidate_caches()
    return source_digest("dataset.load", "mydata.loaders.load")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("mydata/loaders.py", "inner() *", "inner() +"),
        ("mydata/loaders.py", "circle() + ", "circle() - "),
        ("mydata/limits.py", "2", "3"),
        ("mydata/__init__.py", "", "import warnings\n"),
        ("shapes/round.py", "3", "4"),
        ("shapes/square.py", "4", "5"),
    ],
)
def test_whatever_the_function_uses_counts(library: Path, name: str, old: str, new: str) -> None:
    before = digest()
    path = library / name
    path.write_text(path.read_text().replace(old, new) if old else new)
    assert digest() != before


def test_what_it_does_not_use_does_not_count(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest()
    for name in ("mydata/other.py", "shapes/triangle.py"):
        (library / name).write_text("CHANGED = 5\n")
    (library / "mydata/limits.py").write_text("# a comment\n\nFACTOR   =   2   # another\n")
    (library / "notes.txt").write_text("x")
    assert digest() == before
    shutil.copytree(library, tmp_path / "elsewhere")
    shutil.rmtree(library)
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    assert digest() == before


def test_built_ins_count_with_their_names_and_installed_packages_with_their_files() -> None:
    assert source_digest("dataset.load", "mnist5k") is None
    assert source_digest("target.build", "neurogen.targets.networks.lenet") is None
    assert source_digest("target.build", "__main__.target") is None
    installed = source_digest("target.build", "mlxtend.data.mnist_data")
    assert installed is not None
    assert installed == source_digest("target.build", "mlxtend.data.iris_data")


def test_what_has_no_source_is_refused(library: Path) -> None:
    source = library / "mydata/limits.py"
    compile_file(str(source), cfile=str(source.with_suffix(".pyc")))
    source.unlink()
    with pytest.raises(
        UserError, match=r"needs mydata.limits, which has no Python source .* add version: 1 to the YAML"
    ):
        digest()
    source.write_text("FACTOR = = 2")
    with pytest.raises(UserError, match=r"limits.py, which is no valid Python"):
        digest()
    with pytest.raises(UserError, match=r"no importable function: there is no module mydata.nothing"):
        source_digest("dataset.load", "mydata.nothing.load")
    with pytest.raises(UserError, match="no importable function: there is no module nowhere"):
        source_digest("target.build", "nowhere.net")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("mydata/loaders.py", "inner() *", "inner() +"), ("shapes/round.py", "3", "4"), ("mydata/limits.py", "2", "3")],
)
def test_a_file_that_was_edited_after_its_import_is_refused(library: Path, name: str, old: str, new: str) -> None:
    module = importlib.import_module("mydata.loaders")
    before = digest()
    path = library / name
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=rf"{path.name} was edited after this process had imported it; restart"):
        digest()
    for loaded in ("mydata.limits", "shapes.round", "shapes.square"):
        if loaded in sys.modules:
            importlib.reload(sys.modules[loaded])
    importlib.reload(module)
    assert digest() not in (None, before)


def test_functions_that_only_moved_are_the_same(library: Path) -> None:
    importlib.import_module("mydata.loaders")
    path = library / "mydata/loaders.py"
    path.write_text("# moved\n\n\n" + path.read_text())
    assert digest() == digest()
