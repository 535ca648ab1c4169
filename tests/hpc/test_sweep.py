"""The code that goes with a sweep."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from hpc.errors import ClusterError
from hpc.jobs.sweep import Manifest, as_yaml
from tests.hpc.conftest import Composed, sweep_of


def test_the_code_goes_with_the_sweep(experiment: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by its content, a user's own module with it: what is edited later is another copy."""
    module = tmp_path / "weather_data.py"
    module.write_text("VERSION = 1\n")
    package = tmp_path / "weather_model"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "stations.json").write_text("[1]")
    (package / "weights.bin").write_bytes(bytes(2**20 + 1))
    monkeypatch.syspath_prepend(str(tmp_path))
    sweep = sweep_of(experiment, tmp_path, "hpc", "weather_data", "weather_model")
    first = sweep.snapshot()
    assert (first / "weather_model" / "stations.json").read_text() == "[1]"
    assert (first / "weather_model" / "weights.bin").readlink() == package / "weights.bin"
    assert (first / "weather_data.py").read_text() == "VERSION = 1\n"
    assert (first / "hpc" / "jobs" / "job.py").is_file()
    assert sweep.snapshot() == first
    module.write_text("VERSION = 2\n")
    assert sweep.snapshot() != first
    assert (first / "weather_data.py").read_text() == "VERSION = 1\n"
    with pytest.raises(ClusterError, match="nowhere_data cannot be imported here, so no job could"):
        dataclasses.replace(sweep, packages=("nowhere_data",)).snapshot()


def test_a_sweep_is_read_where_its_root_was_moved(experiment: Composed, tmp_path: Path) -> None:
    sweep = sweep_of(experiment, tmp_path / "runs")
    written = sweep.write_manifest()
    assert Manifest.read(written.parent).root == str(tmp_path / "runs")
    (tmp_path / "runs").rename(tmp_path / "moved")
    folder = tmp_path / "moved" / written.parent.relative_to(tmp_path / "runs")
    manifest = Manifest.read(folder)
    assert manifest.root == str(tmp_path / "moved")
    assert {Path(step.folder).parent.parent for step in manifest.steps} == {tmp_path / "moved"}
    assert not manifest.steps[-1].is_done
    (folder / "DONE").touch()
    assert manifest.steps[-1].is_done


def test_a_root_names_the_sweeps_that_it_has(experiment: Composed, tmp_path: Path) -> None:
    folder = sweep_of(experiment, tmp_path / "runs").write_manifest().parent
    with pytest.raises(ClusterError, match=f"is no folder of a sweep, without manifest.json; allowed: {folder}$"):
        Manifest.read(tmp_path / "runs")
    with pytest.raises(ClusterError, match="give that of a sweep, root/sweeps/NAME"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("text", ["${HOME}", r"\${HOME}", r"\\${HOME}", "a $ {b} ${", "$", "\\"])
def test_a_text_that_looks_like_a_reference_is_read_back(text: str) -> None:
    """Names of classes come from files of data, and may have any sign in them."""
    config = {"dataset": {"class_names": [text], "name": text}, "root": "runs"}
    (written,) = as_yaml([config])
    read = OmegaConf.create(written)
    assert isinstance(read, DictConfig)
    assert OmegaConf.to_container(read, resolve=True) == config
