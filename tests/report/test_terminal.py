"""What a run shows at its end can be typed where it was shown."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from neurogen.report.terminal import tensorboard


@pytest.mark.parametrize(("folder", "shown"), [("checkout", ".venv/bin/tensorboard"), ("elsewhere/deep", None)])
def test_tensorboard_is_named_as_it_can_be_typed(
    folder: str, shown: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "checkout" / ".venv" / "bin" / "tensorboard"
    for parent in (program.parent, tmp_path / folder):
        parent.mkdir(parents=True, exist_ok=True)
    program.touch()
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("tensorboard") is None
    monkeypatch.chdir(tmp_path / folder)
    assert tensorboard() == (shown or str(program))
