"""Data and code are looked at again when they are read: queued jobs may start long after they were planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurogen.config import StepKind
from neurogen.errors import UserError
from neurogen.study.execution import in_order, run_here
from neurogen.study.graph import steps_of
from neurogen.study.step import Step
from neurogen.training.runtime import Runtime
from tests.conftest import Composed
from tests.data.test_images import pictures
from tests.data.test_texts import REVIEWS, write

NET = """
from torch import nn

def build(shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape.channels * shape.height * shape.width, shape.num_classes))
"""


def planned(experiment: Composed, *overrides: str) -> dict[StepKind, Step]:
    return {step.kind: step for step in in_order(steps_of([experiment(*overrides)]))}


def refused(step: Step, runtime: Runtime, words: str) -> None:
    """The step says so, and leaves neither a result nor a part of it."""
    with pytest.raises(UserError, match=words):
        run_here([step], runtime)
    assert not step.is_done
    assert not list(step.folder.rglob("*.safetensors"))


def test_pictures_that_changed(experiment: Composed, runtime: Runtime, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "own", {"cat": 8, "dog": 8})
    words = ["dataset=image_folder", f"dataset.path={folder}", "dataset.resize=8"]
    steps = planned(experiment, *words)
    run_here([steps[StepKind.reference]], runtime)
    min((folder / "cat").iterdir()).unlink()
    refused(steps[StepKind.classical], runtime, "dataset image_folder has changed since this was planned")
    run_here([planned(experiment, *words)[StepKind.classical]], runtime)


def test_texts_that_changed(experiment: Composed, runtime: Runtime, tmp_path: Path) -> None:
    path = write(REVIEWS, tmp_path / "reviews.csv")
    columns = ["dataset.text.columns=[review]", "dataset.text.label=stars", "dataset.text.embedding_dim=8"]
    words = ["dataset=text_table", "target=mlp", f"dataset.path={path}", *columns]
    steps = planned(experiment, *words)
    write(REVIEWS[:-1], path)
    refused(steps[StepKind.embed], runtime, "dataset text_table has changed since this was planned")


def test_a_target_that_changed(
    experiment: Composed, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_net.py").write_text(NET)
    steps = planned(experiment, "target.build=own_net.build", "target.options={}")
    (tmp_path / "own_net.py").write_text(NET.replace("nn.Flatten(), ", "nn.Flatten(), nn.Dropout(), "))
    refused(steps[StepKind.reference], runtime, "target cnn_small has changed since this was planned")
