"""Characters written by a shaky hand: the same ones every time, like MNIST's digits, and none that look like them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurogen.config import DatasetConfig
from neurogen.data.dataset import load_images
from neurogen.data.glyphs import LOOK_ALIKES, _usable, glyphs
from neurogen.data.identity import identity
from neurogen.data.strokes import kanjivg, read_strokes
from neurogen.errors import UserError
from tests.conftest import Composed

FEW = {"num_classes": 12, "samples_per_class": 6}


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROGEN_CACHE", str(tmp_path / "cache"))


def config_of(experiment: Composed, *words: str, **options: Any) -> DatasetConfig:
    more = [f"dataset.glyphs.{key}={value}" for key, value in (FEW | options).items()]
    return experiment("dataset=glyphs", *more, *words).dataset


def pictures(config: DatasetConfig) -> dict[str, set[bytes]]:
    """The pictures of every class."""
    raw, names = glyphs(config), glyphs(config).class_names
    samples, labels = (
        np.concatenate([getattr(split, key) for split in (raw.train, raw.test)]) for key in ("samples", "labels")
    )
    return {name: {sample.tobytes() for sample in samples[labels == label]} for label, name in enumerate(names)}


def test_a_data_set_of_characters(experiment: Composed) -> None:
    dataset = load_images(config_of(experiment, "dataset.validation_fraction=0.2"))
    assert len(set(dataset.class_names)) == 12
    assert (len(dataset.train) + len(dataset.validation), len(dataset.test)) == (60, 12)
    assert load_images(config_of(experiment, "dataset.validation_fraction=0.2", "dataset.resize=16")).shape.size == (
        16,
        16,
    )


def test_pictures_are_normalised_as_mnist_is(experiment: Composed) -> None:
    samples = glyphs(config_of(experiment)).train.samples[:, 0].astype(float)
    middles = (
        np.stack([samples.sum(axis=axis) @ np.arange(28) for axis in (2, 1)], axis=1) / samples.sum((1, 2))[:, None]
    )
    assert abs(middles - 13.5).max() <= 0.51
    longer = [max(np.ptp(np.nonzero(ink)[0]) for ink in (sample.any(0), sample.any(1))) + 1 for sample in samples]
    assert set(longer) <= {20, 21, 22}
    assert samples.max((1, 2)).min() == 255


def test_a_picture_depends_on_seed_character_and_number_alone(experiment: Composed) -> None:
    before = pictures(config_of(experiment))
    fewer = pictures(config_of(experiment, num_classes=5, samples_per_class=4))
    assert list(fewer) == list(before)[:5]
    assert all(len(part) == 4 and part < before[name] for name, part in fewer.items())
    other = pictures(config_of(experiment, seed=1))
    assert other.keys() == before.keys()
    assert all(part.isdisjoint(before[name]) for name, part in other.items())


def test_they_are_written_once(experiment: Composed, tmp_path: Path) -> None:
    config = config_of(experiment)
    before = pictures(config)
    (file,) = (tmp_path / "cache" / "glyphs").iterdir()
    time = file.stat().st_mtime_ns
    assert pictures(config) == before
    assert file.stat().st_mtime_ns == time
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(UserError, match=rf"{file.name} cannot be read \(.*\); delete it"):
        glyphs(config)


def test_nothing_looks_like_a_digit_or_a_letter() -> None:
    names = {name for name, _ in _usable()}
    assert len(names) > 6000
    assert names.isdisjoint(LOOK_ALIKES)
    assert not [name for name in names if name.isascii() or name in "０１ａＡ〇"]


def test_the_edition_of_the_characters_is_a_part_of_the_identity(experiment: Composed) -> None:
    assert identity(config_of(experiment)) == f"glyphs-{kanjivg().version}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"num_classes": 10_000},
            r"num_classes=10,000 is more than the \d,\d{3} characters .*max_strokes=12;",
        ),
        ({"max_strokes": 2, "num_classes": 100}, r"num_classes=100 is more than the \d\d characters"),
        ({"seed": -1}, r"seed=-1 must be at least 0"),
    ],
)
def test_more_than_there_is_is_refused(experiment: Composed, options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        glyphs(config_of(experiment, **options))


def test_what_is_missing_is_named(experiment: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(experiment)
    with pytest.raises(UserError, match=r"dataset\.glyphs is null"):
        glyphs(replace(config, glyphs=None))
    (tmp_path / "cache").touch()
    with pytest.raises(UserError, match=r"pictures of glyphs cannot be kept \(.*\); set NEUROGEN_CACHE=FOLDER"):
        glyphs(config)
    monkeypatch.setattr("neurogen.data.strokes.PACKAGE", "a-package-that-nobody-has")
    for call in (glyphs, identity):
        with pytest.raises(UserError, match=r"pip install 'neurogen\[glyphs\]'"):
            call(config)


def test_strokes_are_lines_and_curves_in_a_square(tmp_path: Path) -> None:
    file = tmp_path / "a.svg"
    paths = ("M0,0L100,50", "M50,50c0,0,25,50,50,50s-50,-50,-50,-50")
    drawn = "".join(f'<path d="{path}"/>' for path in paths)
    file.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" width="100" height="100">{drawn}</svg>')
    line, curve = read_strokes(file)
    assert line.tolist() == [[-1, -1], [1, 0]]
    assert np.allclose(curve[[0, 8, 16]], [[0, 0], [1, 1], [0, 0]])
    assert np.allclose(curve[4], [0.3125, 0.5])  # at half of the way (a + 3b + 3c + d) / 8


def test_parts_of_characters_are_classes_of_their_own(experiment: Composed) -> None:
    whole, more = (glyphs(config_of(experiment, max_strokes=12, num_parts=count)) for count in (0, 5))
    parts = more.class_names[len(whole.class_names) :]
    assert more.class_names[:12] == whole.class_names
    assert len(set(parts)) == 5
    for part in parts:
        name, first, end = part[0], *map(int, part[2:-1].split(":"))
        assert name in whole.class_names
        assert 1 <= end - first <= 5
    kept = [
        {sample.tobytes() for split in (raw.train, raw.test) for sample in split.samples[split.labels < 12]}
        for raw in (whole, more)
    ]
    assert kept[0] == kept[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_parts": 10_000}, "num_parts=10,000 is more than half of the"),
        ({"num_parts": 1, "max_strokes": 4}, "cuts characters of 5 strokes or more, and there are none"),
    ],
)
def test_parts_that_cannot_be_had(experiment: Composed, options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        glyphs(config_of(experiment, **options))
