"""What the nodes read to see whether a study's data, models and code are there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neurogen.errors import UserError
from neurogen.inputs import Inputs
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from tests.conftest import TINY_TEXT, Composed


def reviews(folder: Path) -> Path:
    """A table of texts."""
    path = folder / "reviews.csv"
    rows = [f"{word} film number {index},{label}" for index in range(20) for word, label in (("good", 1), ("bad", 0))]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path


def pictures(folder: Path) -> Path:
    """Two classes of five pictures."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "pictures" / name).mkdir(parents=True)
        for index in range(5):
            pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / name / f"{index}.png")
    return folder / "pictures"


def of_table(experiment: Composed, path: Path) -> Inputs:
    words = ["dataset=text_table", f"dataset.path={path}", "dataset.text.columns=[text]", "dataset.text.label=label"]
    return Inputs.of(steps_of([experiment(*[word for word in TINY_TEXT if "=rotten" not in word], *words)]))


def test_what_is_there_is_read_wherever_it_was_planned(experiment: Composed, tmp_path: Path) -> None:
    inputs = Inputs.of(steps_of([experiment()]))
    inputs()
    assert [config.name for config, _ in inputs.data] == ["digits"]
    assert [backbone.name for backbone in inputs.backbones] == ["tiny_llama"]
    assert "neurogen.stages.tune" in inputs.modules
    assert repr(inputs) == repr(Inputs.of(steps_of([experiment("recipe.tune.steps=9", "seed=1")])))
    of_table(experiment, reviews(tmp_path))()
    folder = pictures(tmp_path)
    Inputs.of(steps_of([experiment("dataset=image_folder", f"dataset.path={folder}", "dataset.resize=8")]))()


def test_what_is_done_needs_no_input(experiment: Composed) -> None:
    last = steps_of([experiment()])
    for step in in_order(last)[:-1]:
        step.folder.mkdir(parents=True)
        step.marker.touch()
    assert Inputs.of(last) == Inputs((), (), ("neurogen.aggregate",))


def test_what_is_missing_or_other_than_planned_is_said(experiment: Composed, tmp_path: Path) -> None:
    path = reviews(tmp_path)
    inputs = of_table(experiment, path)
    with path.open("a") as file:
        file.write("one more,1\n")
    with pytest.raises(UserError, match="dataset text_table has changed since this was planned"):
        inputs()
    path.unlink()
    with pytest.raises(UserError, match=r"reviews\.csv"):
        inputs()


def test_a_broken_picture_is_said(experiment: Composed, tmp_path: Path) -> None:
    folder = pictures(tmp_path)
    inputs = Inputs.of(steps_of([experiment("dataset=image_folder", f"dataset.path={folder}", "dataset.resize=8")]))
    (folder / "cat" / "0.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"0\.png"):
        inputs()


def test_a_model_that_is_gone_is_said(experiment: Composed) -> None:
    """On a machine where nothing is downloaded."""
    words = ["backbone.random_seed=null", "backbone.architecture=null", "backbone.model=nobody/nothing"]
    inputs = Inputs.of(steps_of([experiment(*words)]))
    with pytest.raises(UserError, match="backbone nobody/nothing is neither in the cache"):
        inputs()
