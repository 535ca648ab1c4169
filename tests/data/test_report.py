"""What was read of a dataset, in a line and in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurogen import store
from neurogen.data.raw import Labelled, RawSplits, load_raw
from neurogen.data.report import FILE, DataReport
from neurogen.report import study_tables
from neurogen.stages.data_report import note_what_was_read, say_what_was_read
from neurogen.study.results import from_json, to_json
from neurogen.training.runtime import Runtime
from tests.conftest import Composed
from tests.data.test_images import load_folder, pictures

REPORT = DataReport("animals", ("cat", "dog"), (18, 18), (2, 2), (5, 1005), ("left out: 3 files .txt",))


def test_the_line_has_splits_classes_and_notes() -> None:
    assert REPORT.line() == (
        "data animals: train 36, validation 4, test 1,010 of 2 classes (cat: 25, dog: 1,025); left out: 3 files .txt"
    )
    many = DataReport("signs", tuple(map(str, range(11))), (5,) * 11, (1,) * 11, tuple(range(11)))
    assert many.line() == "data signs: train 55, validation 11, test 55 of 11 classes (6 to 16 of each)"


def test_a_report_counts_every_class(experiment: Composed, tmp_path: Path) -> None:
    part = Labelled(np.zeros((3, 1, 2, 2), dtype=np.uint8), np.array([0, 2, 2]))
    report = DataReport.of("data", RawSplits(part, part[np.array([1])], ("a", "b", "c"), part[np.array([0])]))
    assert (report.train, report.validation, report.test) == ((1, 0, 2), (1, 0, 0), (0, 0, 1))
    assert report.per_class == (2, 0, 3)


def test_a_report_survives_its_file(tmp_path: Path) -> None:
    store.write_json(tmp_path / FILE, to_json(REPORT))
    assert from_json(DataReport, store.read_json(tmp_path / FILE), tmp_path) == REPORT


def test_what_a_loader_left_out_reaches_the_step(
    experiment: Composed, tmp_path: Path, runtime: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pictures(tmp_path / "own", {"cat": 20, "dog": 30})
    (folder / "dog" / "notes.txt").touch()
    raw = load_raw(experiment("dataset=image_folder", f"dataset.path={folder}").dataset)
    assert raw.notes == ("left out: 1 file .txt",)
    dataset = load_folder(experiment, folder)
    note_what_was_read(dataset, tmp_path / "step", runtime)
    say_what_was_read(dataset, runtime)
    line = "data image_folder: train 36, validation 4, test 10 of 2 classes (cat: 20, dog: 30); left out: 1 file .txt\n"
    assert capsys.readouterr().out == f"  {line}"  # once in a process
    written = from_json(DataReport, store.read_json(tmp_path / "step" / FILE), tmp_path)
    assert written == DataReport.of("image_folder", raw) == DataReport.of("image_folder", dataset)


def test_a_class_without_pictures_says_what_was_left_out(experiment: Composed, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "own", {"cat": 20, "dog": 20})
    (folder / "cow").mkdir()
    (folder / "cow" / "1.heic").touch()
    with pytest.raises(ValueError, match=r"0 training samples of class cow; .*; left out: 1 file \.heic$"):
        load_folder(experiment, folder)


def test_the_table_of_one_dataset_has_its_classes_and_of_several_each_dataset() -> None:
    table = study_tables.data([REPORT])
    assert list(table.rows) == [
        ("cat", "18", "2", "5"),
        ("dog", "18", "2", "1,005"),
        ("all classes", "36", "4", "1,010"),
    ]
    assert table.note == "animals: left out: 3 files .txt."
    several = study_tables.data([REPORT, DataReport("b", ("x",), (1,), (2,), (3,))])
    assert list(several.rows) == [
        ("animals", "2", "36", "4", "1,010", "25 to 1,025"),
        ("b", "1", "1", "2", "3", "6 to 6"),
    ]
