"""Classes that a user names: what is read, what is doubted, what is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import neurogen
from neurogen.api.generator import LoadedGenerator
from neurogen.api.names import Reading, doubts, samples_of
from neurogen.errors import UserError
from neurogen.generate import main
from neurogen.generator.folder import save_generator
from neurogen.training.runtime import Runtime
from tests.conftest import Composed
from tests.generator.test_lists import NAMED, TASK, generator_of
from tests.training.test_numerics import settings


@pytest.fixture
def folder(experiment: Composed, runtime: Runtime, tmp_path: Path) -> Path:
    """A generator that has learned nothing: its rows mean nothing, its lists are real."""
    chosen = experiment(*NAMED)
    save_generator(generator_of(chosen, runtime), chosen.backbone, tmp_path / "generator")
    return tmp_path / "generator"


@pytest.fixture
def generator(folder: Path) -> LoadedGenerator:
    return neurogen.load(folder, device="cpu", num_threads=1)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lists_are_read_in_float32(generator: LoadedGenerator) -> None:
    seen = list[tuple[bool, str, str]]()
    generator.module.register_forward_hook(lambda *_: seen.append(settings()))
    generator.generate(classes="nought, VII")
    assert seen == [(False, "ieee", "ieee")]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("classes", ["nought, VII, my own sign", ["nought", "VII", "my own sign"]])
def test_a_network_that_answers_with_the_given_names(generator: LoadedGenerator, classes: str | Sequence[str]) -> None:
    network = generator.generate(classes=classes)
    assert network.class_names == ("nought", "VII", "my own sign")
    images = np.zeros((2, 1, 8, 8), dtype=np.uint8)
    assert network(images).shape == (2, 3)
    assert set(network.predict(images)) <= set(network.class_names)
    assert network.prompt is not None
    assert [reading.name for reading in network.prompt.readings] == list(network.class_names)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("nought, seven, Nought", "Nought is there twice"),
        ("zero, one, nought", "nought and zero are one class; name every class once"),
        ("0, zero", "zero and 0 are one class"),
        ("seven", "at least 2 names"),
        ("", "at least 2 names"),
        ("seven,, two", "none of them empty"),
        (None, "give classes=NAME,NAME,… with other names for 0, 1, 2"),
    ],
)
def test_lists_that_cannot_be_meant(generator: LoadedGenerator, classes: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        generator.generate(classes=classes)


def test_a_generator_of_fixed_classes_reads_no_list(experiment: Composed, runtime: Runtime, tmp_path: Path) -> None:
    chosen = experiment("generator.order=interleaved", "generator.context_samples=10")
    fixed = generator_of(chosen, runtime)
    save_generator(fixed, chosen.backbone, tmp_path)
    with pytest.raises(UserError, match="classes= lists classes by name, and this generator of digits-cnn_small has"):
        neurogen.load(tmp_path, device="cpu", num_threads=1).generate(classes="one, two")


def test_a_list_makes_one_network(generator: LoadedGenerator) -> None:
    with pytest.raises(UserError, match="makes one network; leave out num_networks"):
        generator.generate(classes="one, two", num_networks=3)


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([Reading("blorp", "8", 0.3), Reading("two", "2", 0.9)], ["blorp resembles nothing .* is 8 with 30 %"]),
        (
            [Reading("blorp", "8", 0.3), Reading("snidge", "2", 0.1)],
            [
                "blorp resembles nothing that is known; the nearest is 8 with 30 %$",
                r"2 with 10 %\. Known are 0, 1, .* 9$",
            ],
        ),
        ([Reading("due", "2", 0.9), Reading("two", "2", 0.9)], ["due and two are both taken for 2"]),
        ([Reading(str(digit), str(digit), 0.9) for digit in range(5)], ["5 classes are more than the 4"]),
        ([Reading("one", "1", 0.9), Reading("two", "2", 0.9)], []),
    ],
)
def test_doubts_are_said(generator: LoadedGenerator, readings: list[Reading], expected: list[str]) -> None:
    lines = doubts(readings, generator.module.tasks[TASK])
    assert len(lines) == len(expected)
    assert all(re.search(pattern, line) for pattern, line in zip(expected, lines, strict=True))


def pictures(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(folder / name / "1.png")
    return folder


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["generate", *words])
    main()


def test_on_the_command_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    test, out = pictures(tmp_path / "test", "nought", "a star"), tmp_path / "mine.pt2"
    words = [f"generator={folder}", "classes=nought, a star", f"test={test}", f"out={out}", "num_threads=1"]
    command(monkeypatch, *words)
    printed = capsys.readouterr()
    assert "class        nought  taken for" in printed.out
    assert "(n = 2)" in printed.out
    assert "warning: " in printed.err
    program = torch.export.load(out).module()
    assert program(torch.zeros(3, 1, 8, 8, dtype=torch.uint8)).shape == (3, 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["classes=nought, a star", "test=own"], "test=own: which samples are a star?"),
        (["classes=nought, a star", "test=PICTURES"], "moon"),
        (["classes=nought, a star", "samples=PICTURES"], "moon"),
        (["samples=NOWHERE"], "samples=NOWHERE is no folder; give PATH"),
        (["samples=PICTURES/.."], "if they are the classes, give samples="),
        (["samples=ALONE"], "shows star alone; show at least 2 classes, or name others as classes=NAME,NAME"),
        (["classes=nought, a star", "num_networks=2"], "makes one network; leave out num_networks="),
        (["classes=nought, a star", "out=PICTURES/moon/1.png/net.pt2"], "; free some space or give another out=FILE"),
    ],
)
def test_what_contradicts_a_list(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    place = pictures(tmp_path / "kept" / "shown", "nought", "moon")
    alone = pictures(tmp_path / "alone", "star")
    given = [word.replace("PICTURES", str(place)).replace("ALONE", str(alone)) for word in words]
    with pytest.raises(SystemExit):
        command(monkeypatch, f"generator={folder}", *given, "num_threads=1")
    assert message in capsys.readouterr().err


def test_the_test_samples_of_a_list_have_its_places_as_labels(generator: LoadedGenerator) -> None:
    test = generator.dataset(TASK).test
    chosen = samples_of(test, ("7", "nought"), generator.module.tasks[TASK])
    expected = [int(label == 0) for label in test.labels.tolist() if label in (0, 7)]
    assert chosen.labels.tolist() == expected
    assert torch.equal(chosen.samples, test.samples[(test.labels == 0) | (test.labels == 7)])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_cannot_be_written_goes_elsewhere_by_the_argument(generator: LoadedGenerator, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*; free some space or give another path$"):
        generator.generate(classes="one, two").save(tmp_path / "file" / "network.safetensors")
    with pytest.raises(UserError, match=r"cannot write .*; free some space or give another folder$"):
        generator.save(tmp_path / "file" / "shared")
