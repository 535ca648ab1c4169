"""Several threads of a user's program at once: none sees what another one is about."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from hpc.jobs import files
from neurogen import store
from neurogen.config import BackboneConfig
from neurogen.data.pictures import read_picture
from neurogen.generator.loading import load_backbone
from neurogen.run import compose
from neurogen.training.runtime import Runtime
from tests.conftest import Composed

NUM_THREADS, TIMES = 4, 30


def at_once(work: Callable[[], Any], times: int = TIMES) -> list[Any]:
    """What each thread made, every time. All begin together."""
    start = threading.Barrier(NUM_THREADS)

    def repeated(_: int) -> list[Any]:
        start.wait()
        return [work() for _ in range(times)]

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return [made for part in pool.map(repeated, range(NUM_THREADS)) for made in part]


@pytest.mark.parametrize(
    "write",
    [
        store.write_json,
        files.write_json,
        lambda path, value: files.write_bytes(path, json.dumps(value).encode(), mode=0o644),
    ],
)
def test_a_file_has_several_writers(tmp_path: Path, write: Callable[[Path, Any], None]) -> None:
    path, value = tmp_path / "file.json", [*range(1000)]
    at_once(lambda: write(path, value))
    assert json.loads(path.read_text(encoding="utf-8")) == value
    assert list(tmp_path.iterdir()) == [path]


def test_adapters_are_those_of_their_seed(experiment: Composed, runtime: Runtime) -> None:
    config: BackboneConfig = experiment().backbone

    def adapter() -> torch.Tensor:
        state = load_backbone(config, runtime, 0).model.state_dict()
        return torch.cat([value.flatten() for name, value in state.items() if "lora_" in name])

    before = torch.get_rng_state()
    alone = adapter()
    assert all(torch.equal(other, alone) for other in at_once(adapter, 3))
    assert torch.equal(torch.get_rng_state(), before)


def test_pictures_leave_the_filters_of_warnings_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    before = [*warnings.filters]
    assert {picture.remarks for picture in at_once(lambda: read_picture(path, 1, (8, 8)))} == {()}
    assert warnings.filters == before


def test_what_other_code_leaves_open_is_no_remark_on_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python may find it while a picture is read."""
    path = tmp_path / "picture.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    open_picture = Image.open

    def with_a_warning(*arguments: Any, **options: Any) -> Image.Image:
        warnings.warn("unclosed file", ResourceWarning, stacklevel=1)
        return open_picture(*arguments, **options)

    monkeypatch.setattr(Image, "open", with_a_warning)
    assert read_picture(path, 1, (8, 8)).remarks == ()


def test_composing_leaves_hydra_as_it_was() -> None:
    outer = GlobalHydra.instance().hydra
    assert {e.seed for e in at_once(lambda: compose(["dataset=digits", "seed=3"]), 1)} == {3}
    assert GlobalHydra.instance().hydra is outer
