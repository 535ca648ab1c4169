"""`neurogen run --help`: it names all files of conf/, and its examples work."""

from __future__ import annotations

import re
import sys

import pytest

from neurogen import __main__, choices
from neurogen.experiment import experiment_from
from neurogen.usage import INTRODUCTION
from tests.test_docs import composed, words_of

EXAMPLES = re.findall(r"python -m neurogen\.run (.*)", INTRODUCTION)


def test_help_lists_the_files_of_every_group(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["neurogen", "run", "dataset=digits", "--help"])
    __main__.main()
    shown = capsys.readouterr().out
    assert shown.startswith("usage: neurogen run")
    groups = {group: names for group, names in choices.groups().items() if names}
    assert "lenet" in groups["target"]
    for group, names in groups.items():
        listed = re.search(rf"^  {group}\n((?: {{6}}.*\n)+)", shown, re.MULTILINE)
        assert listed is not None
        assert re.findall(r"\w+", listed[1]) == names


@pytest.mark.parametrize("words", [words_of(example) for example in EXAMPLES], ids=" ".join)
def test_an_example_of_the_help_composes(words: tuple[str, ...]) -> None:
    for config in composed([word for word in words if word not in ("--cfg", "job")]):
        experiment_from(config)
