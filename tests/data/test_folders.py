"""Which files of a folder are pictures, of which class and split; what is left out, and what is refused."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from neurogen.data.folders import PictureFolder, list_labelled, list_pictures
from neurogen.data.identity import names_read
from neurogen.data.splits import SplitName
from neurogen.errors import UserError
from tests.conftest import Composed

TRAIN, VALIDATION, TEST = SplitName


def files(folder: Path, *names: str) -> Path:
    """Empty files: nothing is read before everything is listed."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def counts(listed: PictureFolder) -> dict[str, dict[str, int]]:
    """Pictures by split and class."""
    return {
        name: dict(Counter(listed.class_names[label] for label in split.labels))
        for name, split in listed.splits.items()
    }


def names(folder: Path, listed: PictureFolder) -> list[str]:
    """All pictures, without the folder."""
    return [os.path.relpath(path, folder) for path in listed.files()]


def test_classes_are_folders_and_pictures_come_in_order(tmp_path: Path) -> None:
    listed = list_pictures(files(tmp_path, "dog/b.png", "dog/a.png", "cat/2.png", "cat/10.png"))
    assert listed.class_names == ("cat", "dog")
    assert names(tmp_path, listed) == ["cat/10.png", "cat/2.png", "dog/a.png", "dog/b.png"]
    assert listed.splits[TRAIN].labels == (0, 0, 1, 1)
    assert listed.notes == ()


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "val", "test"),
        ("Train", "Val", "Test"),
        ("TRAINING", "validation", "testing"),
        ("train", "valid", "test"),
        ("training", "dev", "Testing"),
    ],
)
def test_splits_by_their_usual_names(tmp_path: Path, train: str, validation: str, test: str) -> None:
    files(tmp_path, f"{train}/cat/1.png", f"{train}/dog/1.png", f"{train}/dog/2.png")
    files(tmp_path, f"{validation}/cat/1.png", f"{validation}/cat/2.png", f"{test}/dog/1.png")
    listed = list_pictures(tmp_path)
    assert counts(listed) == {"train": {"cat": 1, "dog": 2}, "validation": {"cat": 2}, "test": {"dog": 1}}
    assert listed.notes == ()


def test_splits_beside_the_classes(tmp_path: Path) -> None:
    files(tmp_path, "cat/1.png", "dog/1.png", "test/cat/1.png", "val/dog/1.png")
    assert counts(list_pictures(tmp_path)) == {
        "train": {"cat": 1, "dog": 1},
        "validation": {"dog": 1},
        "test": {"cat": 1},
    }


def test_a_class_may_be_called_as_a_split(tmp_path: Path) -> None:
    flat = files(tmp_path / "flat", "boat/1.png", "train/1.png", "test/1.png", "val/1.png")
    assert counts(list_pictures(flat)) == {"train": {"boat": 1, "test": 1, "train": 1, "val": 1}}
    split = files(tmp_path / "split", "train/boat/1.png", "train/train/1.png", "test/boat/1.png", "test/train/1.png")
    assert counts(list_pictures(split)) == {"train": {"boat": 1, "train": 1}, "test": {"boat": 1, "train": 1}}


def test_pictures_in_sub_folders_belong_to_the_class(tmp_path: Path) -> None:
    files(tmp_path, "cat/1.png", "cat/monday/1.png", "cat/monday/noon/1.png", "cat/x.png/1.png", "dog/1.png")
    assert names(tmp_path, list_pictures(tmp_path)) == [
        "cat/1.png",
        "cat/monday/1.png",
        "cat/monday/noon/1.png",
        "cat/x.png/1.png",
        "dog/1.png",
    ]


def test_links_are_followed_and_may_lead_back(tmp_path: Path) -> None:
    elsewhere = files(tmp_path / "elsewhere", "1.png", "2.png")
    data = files(tmp_path / "data", "dog/1.png")
    (data / "cat").symlink_to(elsewhere)
    (data / "dog" / "2.png").symlink_to(elsewhere / "2.png")
    (data / "dog" / "back").symlink_to(data)
    listed = list_pictures(data)
    assert counts(listed) == {"train": {"cat": 2, "dog": 2}}
    assert listed.notes == ("left out: 1 link to a folder around it",)


def test_links_in_a_ring_end(tmp_path: Path) -> None:
    data = files(tmp_path, "cat/a/1.png", "cat/b/1.png", "dog/1.png")
    (data / "cat/a/to_b").symlink_to(data / "cat/b")
    (data / "cat/b/to_a").symlink_to(data / "cat/a")
    assert counts(list_pictures(data)) == {"train": {"cat": 4, "dog": 1}}


def test_endings_in_any_case_and_pictures_without_one(tmp_path: Path) -> None:
    files(tmp_path, *(f"cat/{index}{suffix}" for index, suffix in enumerate((".PNG", ".jfif", ".Jpg", ".TIF", ".pnm"))))
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"):
        Image.new("RGB", (9, 9)).save(tmp_path / "cat" / kind, kind)
    (tmp_path / "cat" / "README").write_text("P5 is a kind of picture, and BM another.")
    listed = list_pictures(files(tmp_path, "dog/1.png"))
    assert counts(listed) == {"train": {"cat": 12, "dog": 1}}
    assert listed.notes == ("left out: 1 file without an ending",)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    files(tmp_path, "train/cat/1.png", "train/cat/notes.txt", "train/cat/more.TXT", "train/cat/.DS_Store")
    files(tmp_path, "train/cat/._1.png", "train/.ipynb_checkpoints/1.png", "train/loose.png", "train/dog/1.heic")
    files(tmp_path, "__MACOSX/cat/1.png", "extra/1.png", "labels/1.csv", "test/dog/1.png", "test/cat/1.png", "a.csv")
    (note,) = list_pictures(tmp_path).notes
    assert sorted(note.removeprefix("left out: ").split(", ")) == sorted(
        [
            "2 hidden folders",
            "2 hidden files",
            "2 files .txt",
            "1 file .heic",
            "1 file .csv",
            "1 picture beside the class folders",
            "2 folders beside train (extra",
            "labels)",
        ]
    )


def test_results_of_this_program_are_no_data(tmp_path: Path) -> None:
    files(tmp_path, "cat/1.png", "dog/1.png", "runs/.neurogen", "runs/sweeps/a/plot.png", "cat/runs/.neurogen")
    listed = list_pictures(tmp_path)
    assert counts(listed) == {"train": {"cat": 1, "dog": 1}}
    assert listed.notes == ("left out: 2 folders with results of this program",)


def test_the_data_folder_may_be_the_root_itself(tmp_path: Path) -> None:
    files(tmp_path, "cat/1.png", "dog/1.png", ".neurogen", "sweeps/a/plot.png", "evaluate/b/plot.png", "data/c/d.png")
    assert counts(list_pictures(tmp_path)) == {"train": {"cat": 1, "dog": 1}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["1.png"], r"has no sub-folders; make one folder per class"),
        (["cat/1.txt", "dog/2.heic"], r"holds no pictures in folders named cat, dog \(left out: 1 file \.txt, 1 file"),
        (["train/a/1.png", "val/a/1.png", "validation/a/1.png"], r"val and .*/validation are both validation data"),
        (["train/a/1.png", "Train/a/1.png"], r"Train and .*/train are both train data"),
        (["train/Cat/1.png", "train/dog/1.png", "test/cat/1.png"], r"test has the folder 'cat' for the class 'Cat'"),
        (["train/kö/1.png", "train/a/1.png", "val/ko\u0308/1.png"], r"val has the folder .* for the class .*accents"),
        (["train/a/1.png", "train/b/1.png", "test/c/1.png"], r"test has folders of pictures called c; .*/train has no"),
        (["a/1.png", "b/1.png", "val/c/1.png"], r"val has folders of pictures called c"),
        (["train/1/a.png", "boat/1/a.png"], r"train has folders with pictures, and so have folders beside it \(boat\)"),
        (["a/train/1.png", "a/test/1.png", "b/train/1.png"], r"put splits around classes: .*/test/a"),
        (["data/a/1.png", "data/b/1.png"], r"one folder only, .* give dataset\.path=.*/data$"),
        (
            ["training_set/a/1.png", "test_set/a/1.png"],
            r"test_set, training_set .* if they are splits, call them train",
        ),
        (["a\nb/1.png", "c/1.png"], r"called 'a\\nb'"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(tmp_path: Path, given: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        list_pictures(files(tmp_path, *given))


def test_classes_that_differ_in_case_alone_are_two(tmp_path: Path) -> None:
    letters = files(tmp_path, "train/a/1.png", "train/A/1.png", "test/a/1.png", "test/A/1.png")
    assert counts(list_pictures(letters)) == {"train": {"A": 1, "a": 1}, "test": {"A": 1, "a": 1}}


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    files(tmp_path, "cat/1.png", "dog/1.png")
    (tmp_path / "cat" / "2.png").symlink_to("nowhere.png")
    with pytest.raises(UserError, match=r"cat/2\.png is a link to nothing"):
        list_pictures(tmp_path)


def test_an_empty_class_folder_stays_a_class(tmp_path: Path) -> None:
    files(tmp_path, "cat/1.png", "dog/1.png")
    (tmp_path / "cow").mkdir()
    assert list_pictures(tmp_path).class_names == ("cat", "cow", "dog")


def test_pictures_for_classes_that_are_known(tmp_path: Path) -> None:
    listed, notes = list_labelled(files(tmp_path, "dog/1.png", "dog/b/2.png", "dog/a.txt"), ("cat", "dog"))
    assert listed.labels == (1, 1)
    assert notes == ("left out: 1 file .txt",)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["cat/1.png", "cow/1.png"], r"has folders of pictures called cow; the classes are cat, dog"),
        (["Cat/1.png"], r"has the folder 'Cat' for the class 'cat'"),
        (["train/cat/1.png", "test/cat/1.png"], r"has folders of splits; give one of them: .*/test or .*/train"),
        (["cat/1.txt"], r"holds no pictures in folders named cat, dog"),
    ],
)
def test_pictures_of_other_classes_are_refused(tmp_path: Path, given: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        list_labelled(files(tmp_path, *given), ("cat", "dog"))


def test_the_files_of_a_config_are_those_that_are_read(experiment: Composed, tmp_path: Path) -> None:
    files(tmp_path, "train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png", "extra/cat/1.png")
    config = experiment("dataset=image_folder", f"dataset.path={tmp_path}").dataset
    assert names_read(config) == [
        "train/cat/1.png",
        "train/dog/1.png",
        "test/cat/1.png",
        "test/dog/1.png",
    ]
