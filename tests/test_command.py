"""`neurogen`: one name for all entry points."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version

import pytest

import neurogen
from neurogen.__main__ import main


def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["neurogen", *arguments])
    main()
    return capsys.readouterr().out


def test_the_version_can_be_asked_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(monkeypatch, capsys, "--version") == f"neurogen {version('neurogen')}\n"
    assert neurogen.__version__ == version("neurogen")


@pytest.mark.parametrize("command", ["fetch", "check"])
def test_what_only_prepares_a_run_has_a_help_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    text = printed(monkeypatch, capsys, command, "--help")
    assert text.startswith(f"usage: neurogen {command} ")
    assert max(map(len, text.splitlines())) <= 120
    assert re.search("Arguments are those of neurogen run", text)
