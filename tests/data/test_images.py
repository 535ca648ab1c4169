"""Image loaders: torchvision's datasets on small files of their formats, pictures in folders."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from neurogen.data.dataset import Dataset, load_images
from neurogen.data.identity import identity
from neurogen.data.published_files import DEBIAN, PACKED, place_of
from neurogen.errors import UserError
from tests.conftest import Composed


def test_resize(experiment: Composed) -> None:
    assert load_images(experiment("dataset.resize=16").dataset).shape.size == (16, 16)


def mnist_files(folder: Path, name: str = "MNIST") -> tuple[Path, NDArray[np.uint8]]:
    """(the folder of 200 and 40 pictures of noise in MNIST's four files, the latter 40)."""
    raw = folder / name / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, count in (("train", 200), ("t10k", 40)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (raw / f"{split}-images-idx3-ubyte").write_bytes(struct.pack(">iiii", 2051, count, 28, 28) + images.tobytes())
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">ii", 2049, count) + labels.tobytes())
    return raw, images


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_torchvision_mnist_from_idx_files(experiment: Composed, tmp_path: Path, name: str, folder: str) -> None:
    _, images = mnist_files(tmp_path, folder)
    dataset = load_images(experiment(f"dataset={name}", f"dataset.path={tmp_path}").dataset)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (180, 20, 40)
    assert torch.equal(dataset.test.samples[:, 0], torch.from_numpy(images))  # the default split, in its order
    assert dataset.notes == ("files: not those that were published",)


@pytest.mark.parametrize("kept", [0, 3, 10, 100_000, -1])
def test_a_file_of_mnist_that_was_cut_short_is_named(experiment: Composed, tmp_path: Path, kept: int) -> None:
    raw, _ = mnist_files(tmp_path)
    path = raw / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"mnist is broken: train-images-idx3-ubyte in .*/MNIST/raw cut short"):
        load_images(experiment("dataset=mnist", f"dataset.path={tmp_path}").dataset)


def test_an_archive_of_mnist_is_unpacked_or_named(
    experiment: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import MNIST

    raw, images = mnist_files(tmp_path)
    resources = []
    for archive, _ in MNIST.resources:
        path = raw / archive
        path.write_bytes(gzip.compress(path.with_suffix("").read_bytes()))
        path.with_suffix("").unlink()
        resources.append((archive, hashlib.md5(path.read_bytes()).hexdigest()))
    monkeypatch.setattr(MNIST, "resources", resources)
    config = experiment("dataset=mnist", f"dataset.path={tmp_path}").dataset
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(UserError, match=rf"mnist is broken: {path.name} in .*/MNIST/raw cut short"):
        load_images(config)
    path.write_bytes(whole)
    assert torch.equal(load_images(config).test.samples[:, 0], torch.from_numpy(images))


def packed_files(folder: Path) -> NDArray[np.uint8]:
    """The same, each file packed and directly in the folder; the 40 pictures of the test split."""
    raw, images = mnist_files(folder)
    for path in raw.iterdir():
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    shutil.rmtree(folder / "MNIST")
    return images


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_packed_files_are_read_where_they_are(
    experiment: Composed, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = packed_files(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    config = experiment(f"dataset={name}", f"dataset.path={tmp_path}").dataset
    dataset = load_images(config)
    assert torch.equal(dataset.test.samples[:, 0], torch.from_numpy(images))
    assert dataset.notes == ("files: not those that were published",)
    assert identity(config) != name
    digests = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()}
    monkeypatch.setitem(PACKED, name, (*PACKED[name], digests))
    assert identity(config) == name
    assert load_images(config).notes == ()
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.parametrize(("first", "last"), [(0, -9), (0, 100), (20, None)])
def test_a_packed_file_that_is_broken_is_named(
    experiment: Composed, tmp_path: Path, first: int, last: int | None
) -> None:
    packed_files(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    content = path.read_bytes()
    path.write_bytes(content[:10] + content[10 + first : last])
    with pytest.raises(UserError, match=rf"fashion_mnist is broken: {path.name} in {tmp_path} cut short or changed"):
        load_images(experiment("dataset=fashion_mnist", f"dataset.path={tmp_path}").dataset)


def test_the_package_of_debian_is_read_unless_a_folder_is_given(
    experiment: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = packed_files(tmp_path / "debian")
    _, others = mnist_files(tmp_path / "given", "FashionMNIST")
    others[:] = 255 - others
    raw = tmp_path / "given" / "FashionMNIST" / "raw"
    (raw / "t10k-images-idx3-ubyte").write_bytes(struct.pack(">iiii", 2051, 40, 28, 28) + others.tobytes())
    monkeypatch.setitem(DEBIAN, "fashion_mnist", tmp_path / "debian")
    for words, expected in ((), images), ((f"dataset.path={tmp_path / 'given'}",), others):
        dataset = load_images(experiment("dataset=fashion_mnist", *words).dataset)
        assert torch.equal(dataset.test.samples[:, 0], torch.from_numpy(expected))
    monkeypatch.setitem(DEBIAN, "fashion_mnist", tmp_path / "nowhere")
    assert place_of(experiment("dataset=fashion_mnist").dataset) == Path("data")


@pytest.mark.skipif(not DEBIAN["fashion_mnist"].is_dir(), reason="the package dataset-fashion-mnist is not installed")
def test_the_package_of_debian_holds_what_was_published(experiment: Composed) -> None:
    config = experiment("dataset=fashion_mnist").dataset
    dataset = load_images(config)
    assert identity(config) == "fashion_mnist"
    assert len(dataset.train) + len(dataset.validation) == 60_000
    assert dataset.test.labels.bincount().tolist() == [1000] * 10
    assert dataset.class_names[dataset.test.labels[0]] == "Ankle boot"


def test_torchvision_cifar10_from_batches(
    experiment: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchvision checks digests, so it gets those of our small files; it reads and splits them itself."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 40, 3072), dtype=np.uint8)
    digests = {}
    for batch, name in enumerate([*[f"data_batch_{index}" for index in range(1, 6)], "test_batch"]):
        (folder / name).write_bytes(pickle.dumps({"data": pixels[batch], "labels": [i % 10 for i in range(40)]}))
        digests[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    meta = pickle.dumps({"label_names": [f"class {index}" for index in range(10)]})
    (folder / "batches.meta").write_bytes(meta)
    listed = list(digests.items())
    monkeypatch.setattr(CIFAR10, "train_list", [list(item) for item in listed[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [list(listed[5])])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": hashlib.md5(meta).hexdigest()})
    dataset = load_images(experiment("dataset=cifar10", f"dataset.path={tmp_path}").dataset)
    assert dataset.shape == dataclasses.replace(dataset.shape, channels=3, height=32, width=32)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (180, 20, 40)
    assert torch.equal(dataset.test.samples, torch.from_numpy(pixels[5]).reshape(40, 3, 32, 32))
    assert dataset.train.preparation.mean.shape == (3, 1, 1)


def test_a_batch_of_cifar10_that_was_cut_short_is_named(experiment: Composed, tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_3").write_bytes(pickle.dumps({"data": [], "labels": []}))
    with pytest.raises(UserError, match=r"cifar10 is broken: data_batch_3 in .*/cifar-10-batches-py cut short"):
        load_images(experiment("dataset=cifar10", f"dataset.path={tmp_path}").dataset)


def test_a_file_of_svhn_that_was_cut_short_is_named(experiment: Composed, tmp_path: Path) -> None:
    (tmp_path / "train_32x32.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(UserError, match=r"svhn is broken: train_32x32\.mat in .* cut short"):
        load_images(experiment("dataset=svhn", f"dataset.path={tmp_path}").dataset)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_folder_that_cannot_be_written_is_named(
    experiment: Composed, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=rf"{name} cannot be written into dataset\.path=.*/file/data \("):
        load_images(experiment(f"dataset={name}", f"dataset.path={tmp_path}/file/data").dataset)


def test_torchvision_svhn_from_mat_files(experiment: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    rng, splits = np.random.default_rng(0), {}
    for split, count in (("train", 200), ("test", 40)):
        images = rng.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        file = tmp_path / f"{split}.mat"
        savemat(file, {"X": images, "y": (np.arange(count) % 10 + 1)[:, None].astype(np.uint8)})
        splits[split] = ["no address", file.name, hashlib.md5(file.read_bytes()).hexdigest()]
    monkeypatch.setattr(SVHN, "split_list", splits)
    dataset = load_images(experiment("dataset=svhn", f"dataset.path={tmp_path}").dataset)
    assert (len(dataset.train), len(dataset.test), dataset.shape.channels) == (180, 40, 3)
    assert torch.equal(dataset.test.samples, torch.from_numpy(images.transpose(3, 2, 0, 1).copy()))
    assert dataset.test.labels[9] == 0  # the file says 10, which is the digit 0


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "svhn", "cifar10"])
def test_a_dataset_that_is_nowhere_says_what_to_do(
    experiment: Composed, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for protocol in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(protocol, "http://127.0.0.1:9")  # nobody listens there: as good as no network
    hint = "or apt-get install dataset-fashion-mnist, " if name == "fashion_mnist" else ""
    with pytest.raises(UserError, match=rf"\(missing: .*cannot be downloaded.*{hint}or use an .* mnist5k, digits"):
        load_images(experiment(f"dataset={name}", f"dataset.path={tmp_path}").dataset)


def pictures(folder: Path, classes: dict[str, int], size: int = 20) -> Path:
    """So many pictures of noise per class, in folders named by the classes."""
    rng = np.random.default_rng(0)
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 256, (size, size + 3, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


def load_folder(experiment: Composed, folder: Path, *more: str) -> Dataset:
    """The dataset of these pictures."""
    return load_images(experiment("dataset=image_folder", f"dataset.path={folder}", *more).dataset)


def test_own_pictures_with_and_without_a_test_folder(experiment: Composed, tmp_path: Path) -> None:
    dataset = load_folder(experiment, pictures(tmp_path / "flat", {"cat": 20, "dog": 30}))
    assert dataset.class_names == ("cat", "dog")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (36, 4, 10)
    assert dataset.shape.size == (32, 32)
    pictures(tmp_path / "split" / "train", {"cat": 10, "dog": 10})
    pictures(tmp_path / "split" / "test", {"cat": 3, "dog": 2})
    dataset = load_folder(experiment, tmp_path / "split", "dataset.resize=16")
    assert (len(dataset.test), dataset.shape.size) == (5, (16, 16))


def test_bad_pictures_are_named(experiment: Composed, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        load_folder(experiment, pictures(tmp_path / "a", {"cat": 1}) / "nowhere")
    with pytest.raises(UserError, match="one class only"):
        load_folder(experiment, tmp_path / "a")
    with pytest.raises(UserError, match="no sub-folders"):
        load_folder(experiment, tmp_path / "a" / "cat")
    with pytest.raises(UserError, match=r"training samples of class dog|too few|class dog"):
        load_folder(experiment, pictures(tmp_path / "b", {"cat": 20, "dog": 1}))
    with pytest.raises(UserError, match=r"set dataset.resize"):
        load_folder(experiment, tmp_path / "b", "dataset.resize=null")
    folder = pictures(tmp_path / "c", {"cat": 20, "dog": 20})
    (folder / "dog" / "3.png").write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r"3\.png is no readable picture"):
        load_folder(experiment, folder)
    pictures(tmp_path / "d" / "train", {"cat": 5, "dog": 5})
    pictures(tmp_path / "d" / "test", {"cat": 5, "cow": 5})
    with pytest.raises(UserError, match="cow"):
        load_folder(experiment, tmp_path / "d")
