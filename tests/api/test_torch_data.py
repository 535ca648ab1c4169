"""Datasets of torch as data: pictures, tensors, parts of a whole, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

import neurogen
from neurogen import Data
from neurogen.data.pictures import read_picture

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 2, 5, 7), dtype=np.uint8)
LABELS = np.arange(12) % 3


class Pairs(torch.utils.data.Dataset[tuple[object, int]]):
    """As in torchvision."""

    classes: Any = ("a", "b", "c")

    def __init__(self, samples: list[object]) -> None:
        self.samples, self.labels = samples, LABELS

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[object, int]:
        return self.samples[index], int(self.labels[index])


def test_a_torch_dataset_gives_pictures_or_tensors() -> None:
    colour = RNG.integers(0, 256, (12, 5, 7, 3), dtype=np.uint8)
    expected = colour.transpose(0, 3, 1, 2)
    pictures = Data.from_torch(Pairs([Image.fromarray(part) for part in colour]), title="pictures")
    tensors = Data.from_torch(Pairs(list(torch.from_numpy(expected) / 255)), class_names=["x", "y", "z"])
    assert (pictures.splits["train"].samples == expected).all()
    assert (tensors.splits["train"].samples == expected).all()
    assert (pictures.class_names, tensors.class_names) == (("a", "b", "c"), ("x", "y", "z"))


@pytest.mark.parametrize("mode", ["P", "1", "LA", "RGBA", "CMYK", "I;16"])
def test_pictures_in_memory_are_read_as_files_with_them(tmp_path: Path, mode: str) -> None:
    """Whatever their mode: indices of a palette are no brightness."""
    grey = RNG.integers(0, 2, (12, 6, 6), dtype=np.uint8) * 200 + 20
    if mode == "I;16":
        pictures = [Image.fromarray(part.astype(np.uint16) * 257) for part in grey]
    else:
        plain = [Image.fromarray(part) for part in grey]
        pictures = [(part.convert("RGB") if mode in ("RGBA", "CMYK") else part).convert(mode) for part in plain]
    samples = Data.from_torch(Pairs(pictures)).splits["train"].samples
    for index, picture in enumerate(pictures):
        path = tmp_path / f"{index}.tif"
        picture.save(path)
        assert (samples[index] == read_picture(path, samples.shape[1], (6, 6)).pixels).all()


def test_pictures_in_memory_are_turned_as_their_exif_data_say(tmp_path: Path) -> None:
    about = Image.Exif()
    about[ExifTags.Base.Orientation] = 6  # a quarter turn
    paths = [tmp_path / f"{index}.png" for index in range(12)]
    for path, pixels in zip(paths, PIXELS[:, 0], strict=True):
        Image.fromarray(pixels).save(path, exif=about)
    samples = Data.from_torch(Pairs([Image.open(path) for path in paths])).splits["train"].samples
    assert samples.shape == (12, 1, 7, 5)
    for sample, path in zip(samples, paths, strict=True):
        assert (sample == read_picture(path, 1, (7, 5)).pixels).all()


def test_a_part_of_a_torch_dataset_has_the_names_of_the_whole() -> None:
    whole = Pairs(list(PIXELS))
    some, others = torch.utils.data.random_split(whole, [9, 3], torch.Generator().manual_seed(0))
    nested = torch.utils.data.Subset(torch.utils.data.Subset(whole, range(9)), range(6))
    for part in (some, nested):
        assert Data.from_torch(part, test=others).class_names == ("a", "b", "c")
    first_and_last = torch.utils.data.Subset(whole, [0, 2, 3, 5])
    data = Data.from_torch(first_and_last)
    assert (data.class_names, data.splits["train"].labels.tolist()) == (("a", "c"), [0, 1, 0, 1])
    assert Data.from_torch(first_and_last, class_names=["x", "y", "z"]).class_names == ("x", "y", "z")
    with pytest.raises(neurogen.UserError, match="labels has the label 'b'; allowed: a, c"):
        Data.from_torch(first_and_last, test=whole)


class Stream(torch.utils.data.IterableDataset[int]):
    """Without items by number."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


@pytest.mark.parametrize("train", [torch.utils.data.DataLoader(Pairs(list(PIXELS))), Stream(), None, {0: 1}])
def test_what_is_no_torch_dataset_is_named_by_its_type(train: Any) -> None:
    with pytest.raises(
        neurogen.UserError, match=f"train is a {type(train).__name__}, which has no items by number; give"
    ):
        Data.from_torch(train)


class Parity(torch.utils.data.Dataset[tuple[object, int]]):
    """A dataset of its own that holds another one, with other labels."""

    def __init__(self, first: int = 0) -> None:
        self.dataset, self.first = Pairs(list(PIXELS)), first

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[object, int]:
        sample, label = self.dataset[index]
        return sample, self.first + label % 2


@pytest.mark.parametrize(("first", "names"), [(0, ("0", "1")), (10, ("10", "11"))])
def test_a_dataset_that_gives_other_labels_has_not_the_names_of_the_one_in_it(
    first: int, names: tuple[str, ...]
) -> None:
    assert Data.from_torch(Parity(first)).class_names == names
    assert Data.from_torch(torch.utils.data.Subset(Parity(first), range(12))).class_names == names


def test_names_that_do_not_fit_are_left_out_with_a_warning() -> None:
    whole = Pairs(list(PIXELS))
    whole.classes, whole.labels = ("a", "b"), LABELS + 1
    with pytest.warns(UserWarning, match=r"the classes of train \(a, b\) do not fit its labels, of which one is 2"):
        assert Data.from_torch(whole).class_names == ("1", "2", "3")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (("N/A", "a", "b"), ("a", "b")),  # as EMNIST's letters
        (("1", "2", "3"), ("2", "3")),  # as a folder of pictures may have them
        (3, ("1", "2")),
    ],
)
def test_names_of_classes_without_samples_and_names_of_something_else_are_left_out(
    classes: Any, names: tuple[str, ...]
) -> None:
    whole = Pairs(list(PIXELS))
    whole.classes = classes
    data = Data.from_torch(torch.utils.data.Subset(whole, [1, 2, 4, 5]))
    assert data.class_names == names
    whole.samples, kept = [PIXELS[index] for index in (1, 2, 4, 5)], LABELS[[1, 2, 4, 5]]
    whole.labels = kept
    assert Data.from_torch(whole).class_names == names
