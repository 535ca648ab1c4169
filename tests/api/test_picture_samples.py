"""A folder of pictures for a generator that knows its classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neurogen.api.samples import SampleReader
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
