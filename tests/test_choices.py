"""What a config asks for as ${epochs_of:…} and ${steps_of:…}: fewer epochs of the zoo and more steps of stage 1 for
more data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import neurogen
from neurogen.api.fit import experiment_of
from neurogen.data.arrays import arrays
from neurogen.run import compose


@pytest.mark.parametrize(
    ("words", "epochs"),
    [
        (["dataset=mnist5k"], 15),  # 4,000 training samples
        (["dataset=digits"], 15),  # fewer
        (["dataset=mnist"], 4),  # 60,000: 15 times as many
        (["dataset=mnist", "dataset.limit=16000"], 8),
        (["dataset=mnist", "dataset.limit=500"], 15),
        (["dataset=image_folder", "dataset.path=anywhere"], 15),  # of unknown size
        (["dataset=mnist", "zoo.training.epochs=9"], 9),
        (["dataset=mnist", "target=cnn_small"], 4),
    ],
)
def test_every_network_of_a_zoo_sees_large_data_less_often(words: list[str], epochs: int) -> None:
    assert compose(words).zoo.training.epochs == epochs


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        (["dataset=mnist5k"], 60),
        (["dataset=digits"], 60),
        (["dataset=mnist"], 118),
        (["dataset=mnist", "dataset.limit=16000"], 85),
        (["dataset=mnist", "dataset.limit=500"], 60),
        (["dataset=image_folder", "dataset.path=anywhere"], 60),
        (["dataset=mnist5k", "target=resnet8"], 150),
        (["dataset=mnist", "target=resnet8"], 295),
        (["dataset=mnist", "recipe.inject.steps=7"], 7),
    ],
)
def test_stage_1_has_more_steps_for_large_data_and_stage_2_has_not(words: list[str], steps: int) -> None:
    recipe = compose(words).recipe
    assert (recipe.inject.steps, recipe.tune.steps, recipe.adapt.steps) == (steps, 60, 50)


def test_data_from_python_say_how_many_they_are() -> None:
    images, labels = np.full((16_000, 2, 2), 99, dtype=np.uint8), np.arange(16_000) % 2
    data = neurogen.Data.from_arrays((images, labels), test=(images[:9] + 1, labels[:9]))
    experiment = experiment_of(data, None, None, None, "runs", [])
    assert experiment.zoo.training.epochs == 8
    assert experiment.dataset.size is not None
    assert experiment.dataset.size.validation_is_cut


@pytest.mark.parametrize("kind", ["arrays", "text_arrays"])
@pytest.mark.parametrize("splits", [(), ("test",), ("test", "validation")])
def test_stored_data_of_the_command_line_are_as_large_as_those_of_python(
    tmp_path: Path, kind: str, splits: tuple[str, ...]
) -> None:
    images, labels = np.full((16_000, 2, 2), 99, dtype=np.uint8), np.arange(16_000) % 2
    samples = images if kind == "arrays" else [f"text {index}" for index in range(16_000)]
    data = neurogen.Data.from_arrays((samples, labels), **dict.fromkeys(splits, (samples[:9], labels[:9])))
    experiment = experiment_of(data, None, None, None, tmp_path, [])
    words = [f"dataset={kind}", f"dataset.path={experiment.dataset.path}", f"dataset.name={data.name}"]
    assert compose([f"root={tmp_path}", *words]) == experiment
    if kind == "arrays":  # networks for texts have few epochs in any case
        assert experiment.zoo.training.epochs < compose([*words, "dataset.size=null"]).zoo.training.epochs


@pytest.mark.parametrize("path", ["missing.safetensors", "broken.safetensors", "."])
def test_a_file_that_cannot_be_read_has_no_size(tmp_path: Path, path: str) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"half")
    dataset = compose(["dataset=arrays", f"dataset.path={tmp_path}/{path}"]).dataset
    assert dataset.size is None
    with pytest.raises(neurogen.UserError, match=r"cannot be read"):
        arrays(dataset)
