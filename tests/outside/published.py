"""Published images in the formats of their publishers: a few noisy pictures, and the digests of these files."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy.io import savemat

NUM_TRAIN, NUM_TEST, NUM_CLASSES = 200, 40, 10


@dataclass(frozen=True)
class Published:
    """What a server offers by its path, and what torchvision must know of it (without the server's address)."""

    files: dict[str, bytes]
    classes: dict[str, dict[str, Any]]  # attributes of torchvision's classes, by their names
    digests: dict[str, dict[str, str]]  # what neurogen.data.published_files must know: by loader and unpacked file


@cache
def published() -> Published:
    """All four datasets; in one process the same bytes every time."""
    files = {**idx("mnist", 0), **idx("fashion", 3), **svhn()}
    batches = cifar10()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in batches.items():
            about = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    files["/cifar/cifar-10-python.tar.gz"] = archive.getvalue()
    listed = [[name, md5(batches[name])] for name in batches]
    classes = {
        "MNIST": {
            "mirrors": ["/mnist/", "/mnist-again/"],
            "resources": [[path.split("/")[-1], md5(files[path])] for path in files if path.startswith("/mnist/")],
        },
        "FashionMNIST": {
            "mirrors": ["/fashion/"],
            "resources": [[path.split("/")[-1], md5(files[path])] for path in files if path.startswith("/fashion/")],
        },
        "SVHN": {
            "split_list": {
                split: [f"/svhn/{split}_32x32.mat", f"{split}_32x32.mat", md5(files[f"/svhn/{split}_32x32.mat"])]
                for split in ("train", "test")
            }
        },
        "CIFAR10": {
            "url": "/cifar/cifar-10-python.tar.gz",
            "tgz_md5": md5(archive.getvalue()),
            "train_list": listed[:5],
            "test_list": [listed[5]],
            "meta": {"filename": "batches.meta", "key": "label_names", "md5": listed[6][1]},
        },
    }
    again = {path.replace("/mnist/", "/mnist-again/"): files[path] for path in files if path.startswith("/mnist/")}
    unpacked = {
        **{
            loader: {
                f"{name}/raw/{path.split('/')[-1].removesuffix('.gz')}": gzip.decompress(files[path])
                for path in files
                if path.startswith(f"/{folder}/")
            }
            for loader, name, folder in (("mnist", "MNIST", "mnist"), ("fashion_mnist", "FashionMNIST", "fashion"))
        },
        "svhn": {path.split("/")[-1]: files[path] for path in files if path.startswith("/svhn/")},
        "cifar10": {f"cifar-10-batches-py/{name}": batches[name] for name in batches if name != "batches.meta"},
    }
    digests = {loader: {name: md5(content) for name, content in parts.items()} for loader, parts in unpacked.items()}
    return Published(files | again, classes, digests)


def idx(folder: str, seed: int) -> dict[str, bytes]:
    rng, files = np.random.default_rng(seed), {}
    for split, count in (("train", NUM_TRAIN), ("t10k", NUM_TEST)):
        images, labels = pictures(rng, count, (28, 28))
        contents = {
            "images-idx3": struct.pack(">iiii", 2051, count, 28, 28) + images.tobytes(),
            "labels-idx1": struct.pack(">ii", 2049, count) + labels.tobytes(),
        }
        for name, content in contents.items():
            files[f"/{folder}/{split}-{name}-ubyte.gz"] = gzip.compress(content, mtime=0)
    return files


def svhn() -> dict[str, bytes]:
    rng, files = np.random.default_rng(1), {}
    for split, count in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        images, labels = pictures(rng, count, (32, 32, 3))
        file = io.BytesIO()
        savemat(file, {"X": images.transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels)[:, None]})
        content = file.getvalue()  # its head holds the time of writing
        files[f"/svhn/{split}_32x32.mat"] = b"MATLAB 5.0 MAT-file, of a test".ljust(116) + content[116:]
    return files


def cifar10() -> dict[str, bytes]:
    rng, batches = np.random.default_rng(2), {}
    for name in (*(f"data_batch_{index}" for index in range(1, 6)), "test_batch"):
        images, labels = pictures(rng, NUM_TEST, (3072,))
        batches[name] = pickle.dumps({"data": images, "labels": labels.tolist()})
    batches["batches.meta"] = pickle.dumps({"label_names": [f"class {index}" for index in range(NUM_CLASSES)]})
    return batches


def pictures(rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """(noise, brighter for higher labels; labels 0 … 9 in turn)."""
    labels = (np.arange(count) % NUM_CLASSES).astype(np.uint8)
    noise = rng.integers(0, 100, (count, *shape), dtype=np.uint8)
    return noise + (15 * labels).reshape(-1, *[1] * len(shape)).astype(np.uint8), labels


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()
