"""Where a packaged language model is dequantised to, and what is said where that cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurogen.cache import cache_folder
from neurogen.errors import UserError
from neurogen.generator.usable import require_usable
from tests.conftest import Composed


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for given, folder in (("/scratch/models", Path("/scratch/models")), ("", tmp_path / ".cache" / "neurogen")):
        monkeypatch.setenv("NEUROGEN_CACHE", given)
        assert cache_folder() == folder


@pytest.mark.parametrize("variable", ["HOME", "NEUROGEN_CACHE"])
@pytest.mark.parametrize("place", ["/proc", "/dev/null", "file"])
def test_a_cache_that_cannot_be_written_is_no_missing_package(
    experiment: Composed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, place: str
) -> None:
    """A container's home, a service account's, a file where a folder should be."""
    (tmp_path / "file").touch()
    monkeypatch.delenv("NEUROGEN_CACHE", raising=False)
    monkeypatch.setenv(variable, str(tmp_path / place))
    with pytest.raises(UserError) as caught:
        require_usable(experiment("backbone=smollm2_135m").backbone)
    message = str(caught.value)
    assert message.startswith("the cache of language models cannot be written: ")
    assert message.endswith("set NEUROGEN_CACHE=FOLDER to a folder that can")
    assert str(tmp_path / place) in message
