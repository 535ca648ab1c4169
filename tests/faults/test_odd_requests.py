"""What a generator is asked for is odd: instructions, class lists, folders of samples, names of files.

It gives a network, or says in one line what is wrong; and it writes nothing but the file that was named.
"""

from __future__ import annotations

import io
import itertools
import os
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, example, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file

from neurogen.api import generator as module
from neurogen.api.generator import LoadedGenerator, load
from neurogen.errors import UserError
from neurogen.generate import main
from neurogen.generator.folder import save_generator
from neurogen.training.runtime import runtime_here
from tests.conftest import tiny
from tests.generator.test_lists import NAMED, generator_of

pytestmark = pytest.mark.faults
TRIES, SEED = int(os.environ.get("FAULT_TRIES", "0")), int(os.environ.get("FAULT_SEED", "0"))
FEW, PER_TRY = 15, 20
common = settings(
    max_examples=TRIES * PER_TRY or FEW,
    phases=(Phase.explicit, Phase.generate),  # without shrinking, which takes minutes
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

# Any sign; bytes that are no text, as Python reads them from a command line; and what shells, paths and formats mind.
MINDED = (
    "'",
    '"',
    "\n",
    "\r",
    "\0",
    "\udcff",
    "\ud800",
    "../",
    "/",
    "\\",
    "%",
    "$(ls)",
    "`",
    ",",
    "=",
    "{",
    "😀",
    "\u2028",
)
ODD = st.lists(st.characters() | st.sampled_from(MINDED), max_size=12).map("".join)
LONG = st.builds(lambda text, count: text * count, ODD, st.integers(50, 400))
TEXTS = st.sampled_from(["A CNN for digits", ""]) | ODD | LONG
KNOWN_NAMES = ("0", "1", "seven", "nought", "my own sign")
CLASSES = st.lists(st.sampled_from(KNOWN_NAMES) | TEXTS, max_size=5)
NAMES = ODD.filter(lambda name: name not in ("", ".", "..") and not set(name) & {"/", "\0"})
OUTS = st.builds(lambda name, suffix: name + suffix, TEXTS, st.sampled_from([".safetensors"] * 4 + ["", ".pt", ".PT2"]))

Write = Callable[[Path], object]


def picture(path: Path) -> None:
    values = random.Random(path.name).choices(range(256), k=64)
    Image.fromarray(np.array(values, dtype=np.uint8).reshape(8, 8)).save(path, format="PNG")


def broken_picture(path: Path) -> None:
    picture(path)
    path.write_bytes(path.read_bytes()[:40])


ENTRIES: dict[str, Write] = {
    "picture": picture,
    "broken picture": broken_picture,
    "empty file": lambda path: path.touch(),
    "folder": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "link to the folder around it": lambda path: path.symlink_to(".."),
}
ENTRY = st.tuples(NAMES, st.sampled_from(["", ".png", ".PNG", ".txt"]), st.sampled_from([*ENTRIES, *["picture"] * 8]))
FOLDERS = st.lists(
    st.tuples(st.sampled_from(KNOWN_NAMES[:4]) | NAMES, st.lists(ENTRY, max_size=3)), min_size=1, max_size=4
)


@cache
def loaded(folder: Path, **how: Any) -> LoadedGenerator:
    return load(folder, device="cpu", num_threads=1)


@pytest.fixture(scope="module", params=["fixed", "named"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator that has learned nothing, of the ten digits or of classes that are named."""
    made = tmp_path_factory.mktemp(request.param)
    chosen = tiny(made / "runs", *(NAMED if request.param == "named" else ()))
    folder = made / "generator"
    folder.mkdir()
    save_generator(generator_of(chosen, runtime_here("cpu", 1)), chosen.backbone, folder)
    return folder


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A new folder each time, in which the command is typed; names that lead out of it stay below the test's own."""

    def made() -> Iterator[Path]:
        for index in itertools.count():
            place = tmp_path / str(index) / "/".join("typed")
            place.mkdir(parents=True)
            monkeypatch.chdir(place)
            yield place

    monkeypatch.setattr(module, "load", lambda source, **how: loaded(Path(source)))
    return made()


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}


def ask(monkeypatch: pytest.MonkeyPatch, words: Sequence[str]) -> str:
    """What the command says when it refuses; "" where it has written a network. Fails where that is no single line."""
    monkeypatch.setattr("sys.argv", ["generate", *words])
    printed, errors = io.StringIO(), io.StringIO()
    status: int | str | None = 0
    with redirect_stdout(printed), redirect_stderr(errors):
        try:
            main()
        except SystemExit as end:
            status = end.code
    if status == 0:
        return ""
    *_, last = errors.getvalue().removesuffix("\n").split("\n")
    assert (status, last[:7]) == (1, "error: "), errors.getvalue()
    return last


def made(folder: Path, names: Sequence[tuple[str, Sequence[tuple[str, str, str]]]]) -> Path:
    """A folder of samples, as far as the file system takes these names."""
    for name, entries in names:
        try:
            (folder / name).mkdir(parents=True, exist_ok=True)
            for entry, suffix, kind in entries:
                ENTRIES[kind](folder / name / (entry + suffix))
        except (OSError, UnicodeEncodeError):
            continue
    return folder


def test_odd_texts_and_names_of_files(folder: Path, places: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    @seed(SEED)
    @common
    @given(TEXTS, CLASSES, OUTS, st.booleans())
    @example("A CNN for digits", ["nought", "seven"], "network.safetensors", True)
    @example("", ["nought", "seven"], "\0.safetensors", True)
    @example("\udcff", ["\udcff", "\ud800"], "\udcff.safetensors", True)
    @example("\ud800", ["nought", "seven"], "\ud800.safetensors", True)
    @example("text", ["nought", "seven"], 300 * "a" + ".safetensors", True)
    @example("text " * 4000, ["nought", "seven"], "network.safetensors", True)
    def ask_for(instruction: str, classes: list[str], out: str, with_classes: bool) -> None:
        place = next(places)
        out = f"{place}{out}" if out.startswith("/") else out
        wanted = Path(os.path.normpath(place / out))
        words = [f"generator={folder}", f"instruction={instruction}", f"out={out}"]
        words += [f"classes={','.join(classes)}"] if with_classes or folder.parent.name.startswith("named") else []
        error = ask(monkeypatch, words)
        written = files_below(place.parents[4])
        assert written == (set() if error else {wanted}), error
        if not error:
            assert all(np.isfinite(value).all() for value in load_file(wanted).values())

    ask_for()


def test_odd_folders_of_samples(folder: Path, places: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    @seed(SEED)
    @common
    @given(FOLDERS, st.none() | CLASSES, st.booleans())
    @example([("nought", [("a", ".png", "picture")]), ("seven", [("b", ".png", "picture")])], None, True)
    def ask_for(names: list[Any], classes: list[str] | None, measured: bool) -> None:
        place = next(places)
        samples = made(place / "samples", names)
        before = files_below(place)
        words = [f"generator={folder}", "samples=samples", *([f"classes={','.join(classes)}"] if classes else [])]
        error = ask(monkeypatch, [*words, *(["test=samples"] if measured else [])])
        written = files_below(place) - before
        assert written == (set() if error else {place / "network.safetensors"}), error
        assert samples.exists() or error

    ask_for()


ARRAYS = st.sampled_from(
    [
        np.zeros((2, 1, 8, 8), dtype=np.uint8),
        np.zeros((2, 8, 8)),
        np.full((2, 8, 8), np.nan),
        np.zeros((0, 8, 8), dtype=np.uint8),
        np.zeros((2, 8, 9), dtype=np.uint8),
        np.zeros(()),
        np.array(["a", "b"]),
        np.array([None, object()]),
    ]
)
GIVEN = st.none() | ARRAYS | TEXTS | st.lists(ARRAYS | TEXTS | st.integers() | st.floats(), max_size=3)
LABELS = st.none() | TEXTS | st.lists(st.integers(-1, 10) | st.integers() | st.floats() | TEXTS | st.none(), max_size=3)


def test_odd_values_from_python(folder: Path, places: Iterator[Path]) -> None:
    @seed(SEED)
    @common
    @given(GIVEN, LABELS, st.none() | CLASSES, st.none() | TEXTS, st.integers(), OUTS)
    @example(np.zeros((2, 8, 8)), ["0", "1"], ["0", "1"], "text", -1, "\0.safetensors")
    @example(None, None, None, "\ud800", 2**70, "\ud800.safetensors")
    def ask_for(samples: Any, labels: Any, classes: Any, instruction: str | None, number: int, out: str) -> None:
        place, generator = next(places), loaded(folder)
        if not folder.parent.name.startswith("named"):
            classes = None
        wanted, error = place / out.lstrip("/"), ""
        try:
            with warnings.catch_warnings(action="ignore", category=UserWarning):
                network = generator.generate(samples, labels, classes=classes, instruction=instruction, seed=number)
            network.save(wanted)
        except UserError as problem:
            error = str(problem)
        assert files_below(place.parents[4]) == (set() if error else {Path(os.path.normpath(wanted))}), error

    ask_for()
