"""A folder of pictures for a generator that knows its classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neurogen.api.samples import SampleReader
from neurogen.data.images import resized
from neurogen.data.preparation import ImageShape, Normalisation
from neurogen.errors import UserError
from tests.conftest import Composed
from tests.data.test_images import pictures


@pytest.fixture
def reader(experiment: Composed) -> SampleReader:
    """Grey pictures of 4×6 pixels."""
    normalisation = Normalisation(torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    return SampleReader(experiment().dataset, ImageShape(1, 4, 6, 3), ("cat", "cow", "dog"), normalisation)


def test_pictures_get_the_form_and_the_labels_of_the_generator(
    reader: SampleReader, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pictures(tmp_path / "own", {"cat": 2, "dog": 1})
    (folder / "dog" / "deep").mkdir()
    Image.fromarray(np.full((4, 6), 30000, dtype=np.uint16)).save(folder / "dog" / "deep" / "wide.png")
    (folder / "cat" / "notes.txt").touch()
    split = reader.read(folder)
    assert split.labels.tolist() == [0, 0, 2, 2]
    assert split.samples.shape == (4, 1, 4, 6)
    assert split.samples[3].unique().tolist() == [117]
    assert capsys.readouterr().err.splitlines() == [
        f"{folder}: left out: 1 file .txt",
        f"{folder}: pictures: 1 grey of 16 bits, scaled to 8",
    ]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"cat": 1, "horse": 1}, r"folders of pictures called horse; the classes are cat, cow, dog"),
        ({"Cat": 1}, r"has the folder 'Cat' for the class 'cat'"),
        ({"test/cat": 1, "train/cat": 1}, r"has folders of splits; give one of them: .*/own/test or .*/own/train"),
    ],
)
def test_folders_of_other_names_are_refused(
    reader: SampleReader, tmp_path: Path, classes: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        reader.read(pictures(tmp_path / "own", classes))


def own_reader(experiment: Composed, shape: ImageShape, *words: str) -> SampleReader:
    normalisation = Normalisation(torch.zeros(shape.channels, 1, 1), torch.ones(shape.channels, 1, 1))
    return SampleReader(experiment(*words).dataset, shape, ("cat", "cow", "dog"), normalisation)


def test_raw_images_are_resized_as_the_training_data_was(experiment: Composed) -> None:
    reader = own_reader(experiment, ImageShape(1, 16, 16, 3), "dataset.resize=16")
    raw = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    assert (reader.samples(raw).numpy() == resized(raw[:, None], 16)).all()
    assert reader.split(raw, [0, 1, 2, 0]).samples.shape == (4, 1, 16, 16)
    whole = resized(raw[:, None], 16)
    assert (reader.samples(whole).numpy() == whole).all()
    with pytest.raises(UserError, match=r"the images are \[3, 8, 8\].*has \[1, 16, 16\]; give images of this form"):
        reader.samples(raw[:3].reshape(1, 3, 8, 8))


def test_pictures_of_a_folder_are_resized_as_files_with_them(experiment: Composed, tmp_path: Path) -> None:
    """Whether they are files, pictures in memory or arrays, in colour or grey."""
    words = ("dataset=image_folder", "dataset.path=anywhere", "dataset.resize=16", "target=cnn_small")
    reader = own_reader(experiment, ImageShape(3, 16, 16, 3), *words)
    folder = pictures(tmp_path / "own", {"cat": 2, "dog": 1})
    opened = [Image.open(path) for path in sorted(folder.glob("*/*.png"))]
    expected = reader.read(folder).samples
    assert torch.equal(reader.samples(opened), expected)
    for picture, whole in zip(opened, expected, strict=True):  # of a size of its own each
        array = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)[None]
        assert torch.equal(reader.samples(array)[0], whole)
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4)
    assert reader.samples([grey]).shape == (1, 3, 16, 16)


def test_pictures_get_the_channels_of_the_network(experiment: Composed) -> None:
    grey = [Image.fromarray(np.full((4, 6), 90, dtype=np.uint8))]
    colour = own_reader(experiment, ImageShape(3, 4, 6, 3))
    assert colour.samples(grey).flatten(2).unique(dim=2).tolist() == [[[90], [90], [90]]]
    assert own_reader(experiment, ImageShape(1, 4, 6, 3)).samples([grey[0].convert("RGB")]).shape == (1, 1, 4, 6)


@pytest.mark.parametrize("channels", [2, 4])
def test_pictures_for_data_of_other_channels_are_refused(experiment: Composed, tmp_path: Path, channels: int) -> None:
    reader = own_reader(experiment, ImageShape(channels, 4, 6, 3))
    folder = pictures(tmp_path / "own", {"cat": 1})
    with pytest.raises(UserError, match=rf"digits has images of {channels} channels, and pictures have 1 or 3; give"):
        reader.read(folder)
    with pytest.raises(UserError, match=rf"has \[{channels}, 4, 6\]; give images of this form"):
        reader.samples([Image.fromarray(np.zeros((4, 6), dtype=np.uint8))])


def test_folders_whose_names_are_numbers_keep_their_classes(reader: SampleReader, tmp_path: Path) -> None:
    numbered = replace(reader, class_names=("1", "2", "3"))
    folder = pictures(tmp_path / "own", {"1": 1, "2": 2})
    assert numbered.read(folder).labels.tolist() == [0, 1, 1]
    images = np.zeros((3, 4, 6), dtype=np.uint8)
    assert numbered.split(images, [1, 2, 3]).labels.tolist() == numbered.split(images, ["1", "2", "3"]).labels.tolist()
