"""A dataset's identity is the content of what its loader reads, wherever that lies and however old it is."""

from __future__ import annotations

import importlib
import linecache
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurogen.config import DatasetConfig, ModelConfig
from neurogen.data.identity import all_files, identity, identity_of_model
from neurogen.data.published_files import PUBLISHED
from neurogen.errors import UserError
from neurogen.store import mark_root
from neurogen.sweep import importable_functions
from tests.conftest import Composed
from tests.data.test_images import pictures
from tests.data.test_texts import REVIEWS, write


@pytest.fixture
def config(experiment: Composed, tmp_path: Path) -> DatasetConfig:
    """Eight pictures, four each of cats and dogs."""
    folder = pictures(tmp_path / "own", {"cat": 4, "dog": 4})
    return experiment("dataset=image_folder", f"dataset.path={folder}").dataset


def first_picture(config: DatasetConfig) -> Path:
    return min(Path(config.path or "").glob("cat/*"))


def edit(path: Path) -> None:
    """Another content of the same size, and the same times."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "edited": edit,
    "removed": Path.unlink,
    "another name": lambda path: path.rename(path.with_name(f"z{path.name}")),
    "another class": lambda path: path.rename(path.parents[1] / "dog" / f"z{path.name}"),
    "added": lambda path: shutil.copy(path, path.with_name(f"z{path.name}")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_the_data_changes_the_identity(config: DatasetConfig, change: str) -> None:
    before = identity(config)
    CHANGES[change](first_picture(config))
    assert identity(config) != before


def test_what_does_not_change_the_data_does_not_change_the_identity(config: DatasetConfig, tmp_path: Path) -> None:
    before, folder = identity(config), Path(config.path or "")
    for path in folder.rglob("*"):
        os.utime(path, (0, 0))
    for name in (".DS_Store", "cat/.DS_Store", "cat/Thumbs.db"):
        (folder / name).write_text("x")
    mark_root(folder / "runs")
    (folder / "runs" / "sweeps").mkdir()
    (folder / "runs" / "sweeps" / "curve.png").write_text("x")
    assert identity(config) == before
    shutil.copytree(folder, tmp_path / "copy")
    assert identity(replace(config, path=str(tmp_path / "copy"))) == before
    (tmp_path / "links").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "links" / name).symlink_to(folder / name)
    assert identity(replace(config, path=str(tmp_path / "links"))) == before


def test_links_are_followed(config: DatasetConfig, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "links" / name).symlink_to(Path(config.path or "") / name)
    linked = replace(config, path=str(tmp_path / "links"))
    before = identity(linked)
    edit(first_picture(config))
    assert identity(linked) != before


def test_the_code_of_a_part_of_a_pool_counts(
    experiment: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    words = ["dataset.load=pool", "dataset.parts=[{name: a, load: own_part.load, path: null}]"]
    seen = []
    for value in (1, 2):
        (tmp_path / "own_part.py").write_text(f"VALUE = {value}\n\ndef load(config):\n    return {value}\n")
        sys.modules.pop("own_part", None)
        importlib.invalidate_caches()
        linecache.clearcache()
        pooled = experiment(*words)
        seen.append(identity(pooled.dataset))
        assert "own_part.load" in importable_functions([pooled])
    assert seen[0] != seen[1]


def test_of_a_loader_of_the_users_all_files_count(config: DatasetConfig, tmp_path: Path) -> None:
    folder = Path(config.path or "")
    loaded = replace(config, load="tests.loaders.nothing", version="1")
    before = identity(loaded)
    (folder / "cat" / "up").symlink_to(folder)  # without end
    (folder / "cat" / "gone").symlink_to(folder / "nothing")
    assert identity(loaded) == before
    (folder / "labels.txt").write_text("1")
    assert identity(loaded) != before
    assert identity(replace(loaded, path=None)) == config.name
    assert "labels.txt" in all_files(str(folder))


def test_the_name_of_a_table_does_not_count_and_its_content_does(experiment: Composed, tmp_path: Path) -> None:
    tables = [write(REVIEWS[:count], tmp_path / f"{count}.csv") for count in (40, 50, 40)]
    shutil.copy(tables[0], tmp_path / "copy.csv")
    paths = [*tables, tmp_path / "copy.csv"]
    for path in paths:
        os.utime(path, (0, 0))
    configs = [experiment("dataset=text_table", "target=mlp", f"dataset.path={path}").dataset for path in paths]
    first, second, third, copy = map(identity, configs)
    assert first == third == copy != second


def test_files_of_published_names_with_other_content(experiment: Composed, tmp_path: Path) -> None:
    configs = [experiment("dataset=mnist", f"dataset.path={tmp_path / name}").dataset for name in ("a", "b", "nowhere")]
    for config, value in zip(configs[:2], (1, 2), strict=True):
        for name in PUBLISHED["mnist"]:
            path = Path(config.path or "") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(np.full(9, value, dtype=np.uint8).tobytes())
    first, second, absent = map(identity, configs)
    assert first != second
    assert absent == "mnist"  # it will be the publishers'


def test_a_published_set_is_known_by_its_digests(
    experiment: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = experiment("dataset=svhn", f"dataset.path={tmp_path}").dataset
    for name in PUBLISHED["svhn"]:
        (tmp_path / name).write_text("")
    assert identity(config).startswith("svhn-")
    monkeypatch.setitem(PUBLISHED, "svhn", dict.fromkeys(PUBLISHED["svhn"], "d41d8cd98f00b204e9800998ecf8427e"))
    assert identity(config) == "svhn"


def test_the_identity_of_a_hub_dataset_is_its_name(experiment: Composed) -> None:
    assert identity(experiment("dataset=sst2", "target=mlp").dataset) == "sst2-stanfordnlp/sst2"


def test_the_model_in_a_folder_counts_with_its_files(experiment: Composed, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_text("1")
    model = ModelConfig(str(folder), None, None, None)
    before = identity_of_model(model)
    assert before is not None
    (folder / "README.md").write_text("x")
    moved = folder.rename(tmp_path / "moved")
    assert identity_of_model(replace(model, model=str(moved))) == before
    (moved / "model.safetensors").write_text("2")
    assert identity_of_model(replace(model, model=str(moved))) != before
    assert identity_of_model(replace(model, model="OWNER/NAME")) is None
    assert identity_of_model(experiment("backbone=tiny_llama").backbone) is None


@pytest.mark.parametrize("dataset", ["image_folder", "text_table"])
def test_data_that_is_not_there_is_refused(experiment: Composed, dataset: str) -> None:
    target = "cnn_small" if dataset == "image_folder" else "mlp"
    with pytest.raises(UserError, match="does not exist"):
        identity(experiment(f"dataset={dataset}", f"target={target}", "dataset.path=a/b").dataset)
