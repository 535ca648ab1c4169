"""Published image datasets from a server, as torchvision then reads them."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from torchvision.datasets import CIFAR10

from neurogen.config import DatasetConfig
from neurogen.data.archives import unpack
from neurogen.data.dataset import load_images
from neurogen.data.published import PublishedSource
from neurogen.data.published_files import are_known_here
from neurogen.downloads.fetch import fetch
from neurogen.errors import UserError
from tests.conftest import Composed
from tests.outside import Web, published, use_here

NAMES = ("mnist", "fashion_mnist", "svhn", "cifar10")
PUBLISHED = published()


@pytest.fixture(autouse=True)
def _here(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web.files |= PUBLISHED.files
    use_here(web, tmp_path / "outside", monkeypatch, PUBLISHED)


def config_of(experiment: Composed, name: str, tmp_path: Path) -> DatasetConfig:
    return experiment(f"dataset={name}", f"dataset.path={tmp_path / 'data'}").dataset


@pytest.mark.parametrize("name", NAMES)
def test_a_dataset_is_fetched_once_and_then_read_without_a_network(
    web: Web, experiment: Composed, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(experiment, name, tmp_path)
    fetch([PublishedSource(config)])
    assert f"  fetch  dataset {name}: " in (shown := capsys.readouterr().out)
    assert f"→ {tmp_path / 'data'} (dataset.path)" in shown
    assert set(web.downloads().values()) == {1}
    before = web.requests.copy()
    assert PublishedSource(config).is_here()  # and notes it, so that torchvision need not be asked again
    assert are_known_here(config)
    fetch([PublishedSource(config)])
    dataset = load_images(config)
    assert (len(dataset.train) + len(dataset.validation), len(dataset.test)) == (200, 40)
    assert web.requests == before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", NAMES)
def test_readers_that_begin_together_download_each_file_once(
    web: Web, experiment: Composed, tmp_path: Path, name: str
) -> None:
    """As jobs do with fetch=false."""
    web.slow_s = 0.05
    config = config_of(experiment, name, tmp_path)
    with ThreadPoolExecutor(8) as pool:
        prints = {dataset.fingerprint for dataset in pool.map(load_images, [config] * 8)}
    assert len(prints) == 1
    assert set(web.downloads().values()) == {1}
    assert not list((tmp_path / "data").rglob("*.part"))


def test_data_that_are_there_are_read_without_writing_beside_them(experiment: Composed, tmp_path: Path) -> None:
    """As on a share that is read-only, where not even a lock can be written."""
    config = config_of(experiment, "svhn", tmp_path)
    fetch([PublishedSource(config)])
    folder = tmp_path / "data"
    (folder / ".svhn.lock").unlink()
    times = {path: path.stat().st_mtime_ns for path in (folder, *folder.iterdir())}
    fetch([PublishedSource(config)])
    load_images(config)
    assert {path: path.stat().st_mtime_ns for path in (folder, *folder.iterdir())} == times


def test_a_download_does_not_grow_through_a_link(web: Web, experiment: Composed, tmp_path: Path) -> None:
    """Whoever shares the folder of the data can put one in the place of the part."""
    config, victim = config_of(experiment, "svhn", tmp_path), tmp_path / "victim"
    victim.write_text("before")
    (tmp_path / "data").mkdir()
    for name in ("train_32x32.mat", "test_32x32.mat"):
        (tmp_path / "data" / f"{name}.part").symlink_to(victim)
    with pytest.raises(UserError, match="symbolic links"):
        fetch([PublishedSource(config)])
    assert victim.read_text() == "before"


def test_too_little_space_is_said_before_anything_is_downloaded(web: Web, experiment: Composed, tmp_path: Path) -> None:
    web.sizes["/svhn/train_32x32.mat"] = 10**16
    sources = [PublishedSource(config_of(experiment, name, tmp_path)) for name in ("mnist", "svhn")]
    with pytest.raises(UserError, match=r"10\.0 PB are needed, [\d.]+ [kMGTP]?B are free \(dataset mnist: .*svhn: 10"):
        fetch(sources)
    assert web.downloads() == {}


def test_offline_the_command_is_said_that_brings_it(
    web: Web, experiment: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    config = config_of(experiment, "cifar10", tmp_path)
    for call in (lambda: load_images(config), lambda: fetch([PublishedSource(config)])):
        with pytest.raises(UserError) as caught:
            call()
        assert f"`neurogen fetch dataset=cifar10 dataset.path={config.path} backbone=tiny_llama`" in str(caught.value)
    assert not web.requests


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("pwned"),)


def test_a_pickle_makes_arrays_and_calls_nothing(
    experiment: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one with the right digest."""
    monkeypatch.chdir(tmp_path)
    config = config_of(experiment, "cifar10", tmp_path)
    fetch([PublishedSource(config)])
    content = pickle.dumps({"data": Hostile(), "labels": [0]})
    (tmp_path / "data" / "cifar-10-batches-py" / "data_batch_1").write_bytes(content)
    others = CIFAR10.train_list[1:]
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", hashlib.md5(content).hexdigest()], *others])
    with pytest.raises(UserError, match=r"cannot be read \(a pickle that asks for pathlib\.Path"):
        load_images(config)
    assert not Path("pwned").exists()


def packed(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    """An archive with something of this name instead of CIFAR-10's first batch."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        about = tarfile.TarInfo(name)
        about.type, about.linkname = kind, "/etc/hostname"
        archive.addfile(about)
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        packed("../../data_batch_1"),
        packed("cifar-10-batches-py/../../data_batch_1"),
        packed("/data_batch_1"),
        packed("cifar-10-batches-py/data_batch_1", tarfile.SYMTYPE),
        packed("cifar-10-batches-py/data_batch_1", tarfile.LNKTYPE),
        packed("cifar-10-batches-py/data_batch_1", tarfile.FIFOTYPE),
    ],
)
def test_of_an_archive_only_files_in_their_places_are_unpacked(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "a" / "b"
    archive, folder = place / "cifar.tar.gz", place / "cifar-10-batches-py"
    place.mkdir(parents=True)
    archive.write_bytes(content)
    with pytest.raises(OSError, match=r"the archive has no file cifar-10-batches-py/data_batch_1"):
        unpack(archive, [folder / "data_batch_1"])
    assert set((tmp_path / "a").rglob("*")) == {place, archive, folder}
    assert not (tmp_path / "data_batch_1").exists()


def test_an_archive_that_fills_the_disk_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurogen.data.archives.LARGEST", 2**20)
    archive = tmp_path / "data" / "train-images-idx3-ubyte.gz"
    archive.parent.mkdir()
    archive.write_bytes(gzip.compress(bytes(2**20 + 1)))
    with pytest.raises(OSError, match=r"train-images-idx3-ubyte is larger than 1,048,576 bytes in its archive"):
        unpack(archive, [archive.with_suffix("")])
    assert list(archive.parent.iterdir()) == [archive]


def test_mirrors_that_send_garbage_leave_nothing_behind(web: Web, experiment: Composed, tmp_path: Path) -> None:
    first = next(path for path in PUBLISHED.files if path.startswith("/mnist/"))
    web.garbage |= {first, first.replace("/mnist/", "/mnist-again/")}
    config = config_of(experiment, "mnist", tmp_path)
    with pytest.raises(UserError, match=r"cannot be downloaded \(http://.*sent 47 bytes .*mnist-again.*mnist5k"):
        fetch([PublishedSource(config)])
    assert [path.name for path in (tmp_path / "data").rglob("*.*")] == [".mnist.lock"]
    web.garbage.remove(first.replace("/mnist/", "/mnist-again/"))
    fetch([PublishedSource(config)])
    assert load_images(config).shape.size == (28, 28)
