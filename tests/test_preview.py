"""`neurogen data`: what is read of a dataset, without training."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from neurogen.errors import UserError
from neurogen.preview import Request, parse
from tests.conftest import Program, error_line
from tests.data.test_images import pictures


def test_pictures_are_counted_and_drawn(program: Program, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "own" / "train", {"cat": 20, "[red]": 30}).parent
    pictures(folder / "test", {"cat": 3, "[red]": 2})
    (folder / ".git").mkdir()
    shown = program("preview", "dataset=image_folder", f"dataset.path={folder}", "dataset.resize=16")
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"\[red\] +│ +27 │ +3 │ +2 │", shown.stdout)
    assert re.search(r"all classes +│ +40 │ +5 │ +5 │", shown.stdout)
    assert "left out: 1 hidden folder" in shown.stdout
    assert "5 of 50 samples of train stand in test too and were taken out of it" in shown.stdout
    assert Image.open(tmp_path / "data-image_folder.png").height > 100


def test_texts_are_counted_and_printed(program: Program, tmp_path: Path) -> None:
    rows = [f"film {index} is {('good', 'bad')[index % 2]},{('up', 'down')[index % 2]}" for index in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *rows, f"{'long ' * 100},up"]))
    words = ["dataset=text_table", f"dataset.path={tmp_path}/t.csv"]
    shown = program("preview", *words, COLUMNS="60")
    assert shown.returncode == 0, shown.stderr
    assert len(re.findall(r"^  film \d+ is good$", shown.stdout, re.MULTILINE)) == 3
    assert max(map(len, shown.stdout.splitlines())) <= 60
    assert "which are printed" in error_line(program("preview", *words, "out=x.png"))


def test_what_cannot_be_read_is_one_line(program: Program, tmp_path: Path) -> None:
    assert "dataset.path=nowhere is no folder" in error_line(
        program("preview", "dataset=image_folder", "dataset.path=nowhere")
    )
    assert "nowhere/x.png cannot be written (No such file" in error_line(
        program("preview", "dataset=digits", "out=nowhere/x.png")
    )


def test_the_words_of_the_command_line() -> None:
    assert parse(["dataset=digits", "--out", "a.png"]) == Request(("dataset=digits",), Path("a.png"))
    assert parse(["--out=a.PNG"]) == Request((), Path("a.PNG"))
    assert parse(["out=a.png", "out_of=b"]) == Request(("out_of=b",), Path("a.png"))
    for words, message in ((["-m"], "-m is no option"), (["out=a.pdf"], r"must end in \.png"), (["--out"], "must end")):
        with pytest.raises(UserError, match=message):
            parse(words)
