"""A user's arrays, texts and datasets: what they become, how they are stored, and what is refused."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from safetensors.numpy import save, save_file

import neurogen
from neurogen import Data
from neurogen.data.arrays import arrays, stored_size
from neurogen.data.identity import identity
from neurogen.data.raw import RawSplits
from neurogen.run import compose

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 2, 5, 7), dtype=np.uint8)
LABELS = np.arange(12) % 3
TEXTS = ["good", "schön, wirklich", "", "b" * 300]


def stored(data: Data, root: Path, *words: str) -> RawSplits:
    """The data as a step reads it."""
    path = data.save(root)
    kind = {"image": "arrays", "text": "text_arrays"}[data.modality]
    return arrays(compose([f"dataset={kind}", f"dataset.path={path}", *words]).dataset)


def test_images_are_stored_by_content_and_read_back(tmp_path: Path) -> None:
    data = Data.from_arrays((PIXELS[:9], LABELS[:9]), test=(PIXELS[9:], LABELS[9:]), title="weather radar")
    assert (data.name, data.class_names, data.modality) == ("weather_radar", ("0", "1", "2"), "image")
    assert repr(data) == "Data(weather radar: 9 train, 3 test images of 3 classes)"
    raw = stored(data, tmp_path)
    assert (raw.train.samples == PIXELS[:9]).all()
    assert (raw.test.labels == LABELS[9:]).all()
    assert raw.train.samples.dtype == np.uint8
    assert raw.validation is None
    (path,) = (tmp_path / "data").iterdir()
    before = path.stat().st_mtime_ns
    same = Data.from_arrays((torch.from_numpy(PIXELS[:9]), list(LABELS[:9])), (PIXELS[9:], LABELS[9:]), title="other")
    assert same.save(tmp_path) == path
    assert path.stat().st_mtime_ns == before
    other = Data.from_arrays((PIXELS[:9], LABELS[:9]), (PIXELS[9:] // 2, LABELS[9:]))
    assert other.save(tmp_path) != path


@pytest.mark.parametrize("names", ["no JSON", "7", "null"])
def test_a_file_whose_head_says_nothing_of_its_size_is_left_to_the_loader(tmp_path: Path, names: str) -> None:
    file = tmp_path / "other.safetensors"
    save_file({"train.labels": LABELS, "train.images": PIXELS}, file, {"class_names": names})
    assert stored_size(file) is None
    save_file({"train.labels": np.array(1)}, file, {"class_names": "[]"})
    assert stored_size(file) is None


def test_the_identity_is_the_content(tmp_path: Path) -> None:
    path = Data.from_arrays((PIXELS, LABELS)).save(tmp_path)
    config = compose(["dataset=arrays", f"dataset.path={path}"]).dataset
    before = identity(config)
    os.utime(path, (0, 0))
    moved = path.rename(tmp_path / "moved.safetensors")
    assert identity(compose(["dataset=arrays", f"dataset.path={moved}"]).dataset) == before
    content = bytearray(moved.read_bytes())
    content[-1] ^= 1
    moved.write_bytes(content)
    with pytest.raises(neurogen.UserError, match="has been changed"):
        arrays(compose(["dataset=arrays", f"dataset.path={moved}"]).dataset)
    moved.write_bytes(b"half")
    with pytest.raises(neurogen.UserError, match=r"moved.safetensors cannot be read"):
        arrays(compose(["dataset=arrays", f"dataset.path={moved}"]).dataset)


@pytest.mark.parametrize("names", [["c", "a", "b"], ["schön", '"', "🐱"]])
def test_the_same_data_have_one_identity_in_every_root(tmp_path: Path, names: list[str]) -> None:
    data = Data.from_arrays((PIXELS, LABELS), class_names=names)
    files = [data.save(tmp_path / str(index)).read_bytes() for index in range(12)]
    assert len(set(files)) == 1
    head = json.loads(files[0][8 : 8 + int.from_bytes(files[0][:8], "little")])
    about = head["__metadata__"]
    tensors = {"train.images": PIXELS, "train.labels": LABELS}
    assert files[0] in {save(tensors, about) for _ in range(40)}  # as safetensors writes it, in one of its orders


def test_texts_keep_every_letter(tmp_path: Path) -> None:
    train = [f"{text} {index}" for index in range(6) for text in TEXTS[:2]]
    data = Data.from_arrays((train, ["yes", "no"] * 6), validation=(TEXTS[3:], ["no"]), title="mails")
    raw = stored(data, tmp_path)
    assert raw.class_names == ("no", "yes")
    assert raw.validation is not None
    assert list(raw.validation.samples) == TEXTS[3:]
    texts = [*raw.train.samples, *raw.test.samples]  # a fifth of each class is test
    assert sorted(texts) == sorted(train)
    assert len(raw.test) == 2


def test_floats_are_rounded_to_bytes_and_grey_images_need_no_channel() -> None:
    data = Data.from_arrays((PIXELS[:, 0].astype(np.float32) / 255, LABELS))
    assert (data.splits["train"].samples == PIXELS[:, :1]).all()


def test_a_larger_size_is_asked_for_as_for_every_dataset(tmp_path: Path) -> None:
    raw = stored(Data.from_arrays((PIXELS, LABELS)), tmp_path, "dataset.resize=16")
    assert raw.train.samples.shape[1:] == (2, 16, 16)


@pytest.mark.parametrize("names", [range(3), np.arange(3)])
def test_names_of_classes_are_texts(names: Any) -> None:
    assert Data.from_arrays((PIXELS[:, 0], LABELS), class_names=names).class_names == ("0", "1", "2")


def test_what_becomes_test_data_does_not_count_as_training_data() -> None:
    images, labels = np.zeros((1000, 4, 4), np.uint8), np.arange(1000) % 2
    images[:, 0, 0] = labels * 255
    whole = Data.from_arrays((images, labels))
    assert "num_train:800," in whole.size
    assert "num_train:1000," in Data.from_arrays((images, labels), test=(images[:10], labels[:10])).size


@pytest.mark.parametrize(
    ("train", "options", "message"),
    [
        (PIXELS, {}, "train is a ndarray; give (samples, labels)"),
        ((PIXELS, LABELS[:5]), {}, "train has 12 samples and 5 labels"),
        ((PIXELS * 2.0, LABELS), {}, "the images of train are floats from 0 to"),
        ((np.where(PIXELS, np.nan, 0.5), LABELS), {}, "floats from nan to nan"),
        ((PIXELS.astype(np.int32), LABELS), {}, "the type int32; give bytes"),
        ((PIXELS.transpose(0, 2, 3, 1)[..., :1], LABELS), {}, "with the channels last"),
        ((PIXELS.transpose(0, 2, 3, 1), LABELS), {}, "the shape [12, 5, 7, 2], with the channels last"),
        ((np.zeros((20, 32, 32, 4), np.uint8), [0, 1] * 10), {}, "images.transpose(0, 3, 1, 2)"),
        ((PIXELS[0, 0], LABELS[:5]), {}, "the shape [5, 7]; give [samples, channels, height, width]"),
        (([PIXELS[0], PIXELS[1, :, :3]], [0, 1]), {}, "must have one size"),
        ((PIXELS, LABELS), {"class_names": ["a", "b"]}, "train has the label 2; labels are 0 … 1"),
        ((PIXELS, LABELS - 1), {"class_names": ["a", "b", "c"]}, "train has the label -1"),
        ((PIXELS, LABELS), {"test": (PIXELS[:, :1], LABELS)}, "test has samples [1, 5, 7] and train [2, 5, 7]"),
        ((["a", " "], [0, 1]), {}, "no texts, or empty"),
        ((["a", 5], [0, 1]), {}, "no texts, or empty"),
        ((["a", "half \ud83d"], [0, 1]), {}, "train has a text with half of a sign"),
        ((["a", "b"], [1, "1"]), {}, "has 1 both as a number and as a word"),
        ((PIXELS, LABELS + 0.5), {}, "a label is a whole number or a word"),
        ((PIXELS / 255 * 1.00001, LABELS), {}, "are floats from 0 to 1.00001; give floats from 0 to 1"),
        (None, {}, "train is a NoneType; give (samples, labels)"),
        ((PIXELS, None), {}, "the labels of train are a NoneType; give a list or an array with the label of every"),
        ((PIXELS, 3), {}, "the labels of train are a int"),
        ((None, LABELS), {}, "the images of train are a NoneType, which is no array of numbers"),
        ((3, LABELS), {}, "the images of train have the shape []"),
        (([], []), {}, "the images of train are an empty list; give at least one"),
        ((iter(PIXELS), LABELS), {}, "which is no array of numbers; give an array, or a list of arrays"),
        (
            ([[[1, 2], [3]], [[1, 2], [3, 4]]], [0, 1]),
            {},
            "the images of train are a list that cannot be read as an array",
        ),
        ((torch.eye(3).to_sparse()[None], [0]), {}, "the images of train are a Tensor that cannot be read as an array"),
        (([torch.eye(3).to_sparse()] * 2, [0, 1]), {}, "are a Tensor that cannot be read as an array"),
        ((PIXELS, LABELS), {"title": 5}, "title=5 is a int; give a text"),
        ((PIXELS, LABELS), {"name": ["radar"]}, "name=['radar'] is a list; give a text"),
        (
            (PIXELS, LABELS),
            {"title": "🐱"},
            "title='🐱' makes no name of a folder; give name= with letters, digits, _ and -",
        ),
        ((PIXELS, LABELS), {"name": "a/b"}, "name='a/b' makes no name of a folder; give name="),
    ],
)
def test_what_is_no_dataset_is_refused(train: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(neurogen.UserError, match=re.escape(message)) as caught:
        Data.from_arrays(train, **options)
    assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(neurogen.UserError, match="cannot write"):
        Data.from_arrays((PIXELS, LABELS)).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["odd", "even"] * 5, "class_names has 'odd' twice: odd, even"),
        (["a", "a "], "has 'a' twice"),
        (["a", " "], "has an empty name"),
    ],
)
def test_names_that_cannot_tell_classes_apart_are_refused(names: list[str], message: str) -> None:
    images = np.zeros((4, 8, 8), dtype=np.uint8)
    with pytest.raises(neurogen.UserError, match=message):
        Data.from_arrays((images, [0, 1, 0, 1]), class_names=names)


def test_as_many_classes_as_there_are_and_names_that_differ_in_case() -> None:
    images, names = np.zeros((4, 8, 8), dtype=np.uint8), ["A", "a", *(f"class {number}" for number in range(2000))]
    assert Data.from_arrays((images, [0, 1, 0, 1]), class_names=names).class_names == tuple(names)


def test_texts_of_pandas_are_texts() -> None:
    frame = pandas.DataFrame({"text": ["good film", "bad film"] * 5, "label": ["pos", "neg"] * 5})
    data = Data.from_arrays((frame["text"], frame["label"]))
    assert (data.modality, data.class_names) == ("text", ("neg", "pos"))


def test_no_images_at_all_are_named() -> None:
    with pytest.raises(neurogen.UserError, match=r"the images of train are empty, of the shape \[0, 8, 8\]"):
        Data.from_arrays((np.zeros((0, 8, 8), dtype=np.uint8), []))


@pytest.mark.parametrize("factor", [1 + 1e-7, 1 + 9e-7])
def test_floats_a_rounding_error_beside_their_range_are_bytes(factor: float) -> None:
    data = Data.from_arrays((PIXELS / 255 * factor - 1e-7, LABELS))
    assert (data.splits["train"].samples == PIXELS).all()


def test_tensors_of_any_kind_are_images() -> None:
    """Also those that numpy does not know, and those of a gradient."""
    whole = torch.from_numpy(PIXELS) / 255
    for images in (whole.clone().requires_grad_(), [part.clone().requires_grad_() for part in whole]):
        assert (Data.from_arrays((images, LABELS)).splits["train"].samples == PIXELS).all()
    halves = torch.from_numpy(PIXELS // 128 * 255) / 255
    for images in (halves.bfloat16(), list(halves.bfloat16())):
        assert (Data.from_arrays((images, LABELS)).splits["train"].samples == PIXELS // 128 * 255).all()


def test_small_images_of_many_channels_are_no_channels_last() -> None:
    for shape in ((8, 4, 4), (4, 5, 7), (2, 5, 7), (8, 8, 8), (5, 2, 4)):
        images = np.full((12, *shape), 99, dtype=np.uint8)
        assert Data.from_arrays((images, LABELS)).splits["train"].samples.shape[1:] == shape


def test_images_of_a_small_range_are_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"the images of test are nearly black, no value is above 3 of 255; scale"):
        Data.from_arrays((PIXELS, LABELS), test=(PIXELS / 255 / 100, LABELS))


def test_grey_pictures_beside_colour_are_colour() -> None:
    colour = [Image.fromarray(part) for part in RNG.integers(0, 256, (12, 6, 6, 3), dtype=np.uint8)]
    grey = [picture.convert("L") for picture in colour]
    data = Data.from_arrays(([*colour[:6], *grey[6:]], LABELS), test=(grey, LABELS))
    assert data.splits["test"].samples.shape == (12, 3, 6, 6)
    with pytest.raises(neurogen.UserError, match=r"test has samples \[3, 6, 6\] and train \[1, 6, 6\]"):
        Data.from_arrays((grey, LABELS), test=(colour, LABELS))


def test_names_of_classes_that_are_other_numbers_than_the_labels_are_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"the labels are 0 … 2, and class_names are other whole numbers \(1, 2, 3\)"):
        Data.from_arrays((PIXELS, LABELS), class_names=["1", "2", "3"])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("names", [[1, 2, 3], range(1, 4), np.arange(1, 4), [3, 2, 1]])
def test_whole_numbers_are_names_where_the_labels_are_among_them(names: Any) -> None:
    data = Data.from_arrays((PIXELS, LABELS + 1), class_names=names)
    assert data.class_names == tuple(map(str, names))
    assert [data.class_names[label] for label in data.splits["train"].labels] == [str(label + 1) for label in LABELS]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("names", [["a", "b", "c"], ["0", "1", "2"], None])
def test_other_names_of_classes_need_no_warning(names: list[str] | None) -> None:
    Data.from_arrays((PIXELS, LABELS), class_names=names)


def test_no_folder_is_called_none() -> None:
    with pytest.raises(neurogen.UserError, match="root=None is a NoneType; give a path"):
        Data.from_arrays((PIXELS, LABELS)).save(None)  # type: ignore[arg-type]
