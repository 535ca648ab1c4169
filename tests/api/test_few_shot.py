"""Classes that a user shows by samples, alone and beside classes that are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from neurogen.api.few_shot import SupportClass, contradictions
from neurogen.api.generator import LoadedGenerator
from neurogen.errors import UserError
from neurogen.generate import main
from neurogen.generator.few_shot import known_rows
from neurogen.targets.prototypes import features, output_rows
from tests.api.test_names import folder, generator
from tests.generator.test_lists import TASK

__all__ = ["folder", "generator"]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def pictures(kind: int, count: int = 3) -> NDArray[np.uint8]:
    """Bright columns: other ones for every kind."""
    rng = np.random.default_rng(kind)
    images = rng.integers(0, 40, (count, 1, 8, 8))
    images[:, :, :, 2 * kind : 2 * kind + 2] += 200
    return images.astype(np.uint8)


def samples_of(*names: str) -> tuple[NDArray[np.uint8], list[str]]:
    samples = np.concatenate([pictures(kind) for kind in range(len(names))])
    return samples, [name for name in names for _ in range(3)]


@torch.no_grad()
def test_rows_of_shown_classes_are_prototypes_on_the_generated_network(generator: LoadedGenerator) -> None:
    samples, labels = samples_of("ka", "ki")
    network = generator.generate(samples, labels, classes="ka, nought, ki, VII")
    named = generator.generate(classes="nought, VII")
    assert network.class_names == ("ka", "nought", "ki", "VII")
    tensors, others = (dict(each.network.named_parameters()) for each in (network, named))
    weight, bias = output_rows(network.network, tensors)
    expected, offset = output_rows(named.network, others)
    torch.testing.assert_close(weight[[1, 3]], expected)
    torch.testing.assert_close(bias[[1, 3]], offset)
    for name in ("0.weight", "3.weight"):
        torch.testing.assert_close(tensors[name], others[name])
    read = features(network.network, None, network.preparation(torch.from_numpy(samples)))
    rows, biases = known_rows(generator.module.tasks[TASK])
    for place, samples_of_class in ((0, read[:3]), (2, read[3:])):
        prototype = samples_of_class.mean(0) / samples_of_class.mean(0).norm()
        torch.testing.assert_close(weight[place], rows.norm(dim=1).mean() * prototype)
        torch.testing.assert_close(bias[place], biases.mean())
    assert network.prompt is not None
    assert [reading.name for reading in network.prompt.readings] == ["nought", "VII"]
    assert [(each.name, each.num_samples) for each in network.prompt.support] == [("ka", 3), ("ki", 3)]


def test_all_classes_can_be_shown(generator: LoadedGenerator) -> None:
    samples, labels = samples_of("ka", "ki", "ku")
    network = generator.generate(samples, labels, classes=["ku", "ka", "ki"])
    assert network.class_names == ("ku", "ka", "ki")
    assert network.prompt is not None
    assert network.prompt.readings == ()
    assert network(samples).shape == (9, 3)
    assert network.accuracy(samples, labels) > 0.5  # also on layers that have learned nothing


@pytest.mark.parametrize(
    ("classes", "samples", "labels", "message"),
    [
        ("ka, ki", pictures(0), ["ka", "ka", "ku"], "ku"),
        ("ka, ki", np.zeros((3, 1, 9, 9), dtype=np.uint8), ["ka", "ka", "ki"], r"the images are \[1, 9, 9\]"),
        ("ka, ka", pictures(0), ["ka"] * 3, "ka is there twice"),
        ("nought, zero", pictures(0), ["zero"] * 3, "nought are one class|zero and nought|zero are one class"),
        ("ka", pictures(0), ["ka"] * 3, "at least 2 names"),
        ("ka, ki", pictures(0), ["ka"] * 2, "3 samples and 2 labels"),
        ("ka, ki", pictures(0), None, "samples and labels belong together"),
    ],
)
def test_samples_that_cannot_be_meant(
    generator: LoadedGenerator, classes: str, samples: NDArray[np.uint8], labels: list[str] | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        generator.generate(samples, labels, classes=classes)


@pytest.mark.parametrize(
    ("support", "expected"),
    [
        (
            SupportClass("nought", 3, "0", "8"),
            ["nought is 0, and its samples look like 8; its row is made of the samples"],
        ),
        (SupportClass("nought", 3, "0", "0"), []),
        (SupportClass("ka", 3, None, "8"), []),
    ],
)
def test_a_name_that_its_samples_contradict(support: SupportClass, expected: list[str]) -> None:
    assert contradictions([support]) == expected


def saved(place: Path, *names: str) -> Path:
    for kind, name in enumerate(names):
        (place / name).mkdir(parents=True)
        for number, picture in enumerate(pictures(kind)):
            Image.fromarray(picture[0]).save(place / name / f"{number}.png")
    return place


@pytest.mark.parametrize("words", [["classes=ki, nought, ka"], []])
def test_on_the_command_line(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    place, out = saved(tmp_path / "samples", "ka", "ki"), tmp_path / "mine.pt2"
    given = [f"generator={folder}", f"samples={place}", f"test={place}", f"out={out}", "num_threads=1"]
    monkeypatch.setattr("sys.argv", ["generate", *given, *words])
    main()
    printed = capsys.readouterr().out
    assert "class        ka" in printed
    assert "shown by 3 samples" in printed
    assert ("from names and samples alone" if words else "from samples alone") in printed
    assert "(n = 6)" in printed
    program = torch.export.load(out).module()
    assert program(torch.zeros(3, 1, 8, 8, dtype=torch.uint8)).shape == (3, 3 if words else 2)


def test_a_folder_that_the_list_lacks(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = saved(tmp_path, "ka", "ki")
    monkeypatch.setattr("sys.argv", ["generate", f"generator={folder}", f"samples={place}", "classes=ka, ku"])
    with pytest.raises(SystemExit):
        main()
    assert "ki" in capsys.readouterr().err
