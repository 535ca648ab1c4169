"""Downloaded datasets whose files the publishers fixed: which files torchvision reads, and what is in them.

in:  the config of such a dataset
out: the digest of its files; None where they are those of the publishers, or not there yet

So results do not depend on when the files were downloaded, and files of the same names with other content are noticed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from neurogen import store
from neurogen.cache import cache_folder
from neurogen.config import DatasetConfig
from neurogen.digests import digests
from neurogen.errors import UserError

MNIST = "MNIST/raw"
CIFAR10 = "cifar-10-batches-py"
# MD5, as the publishers and torchvision give it
PUBLISHED = {
    "mnist": {
        f"{MNIST}/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        f"{MNIST}/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        f"{MNIST}/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        f"{MNIST}/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "svhn": {
        "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
        "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
    },
    "cifar10": {
        f"{CIFAR10}/data_batch_1": "c99cafc152244af753f735de768cd75f",
        f"{CIFAR10}/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        f"{CIFAR10}/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        f"{CIFAR10}/data_batch_4": "634d18415352ddfa80567beed471001a",
        f"{CIFAR10}/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        f"{CIFAR10}/test_batch": "40351d587109b95175f43aff81a1287e",
    },
}
CLASS_NAMES = {"cifar10": f"{CIFAR10}/batches.meta"}  # torchvision reads it, and no result depends on it
NUM_UNPACKED = {"mnist": 54_950_048, "cifar10": 186_214_000, "svhn": 0}  # bytes in their archives
FORMER_MNIST = ("MNIST/processed/training.pt", "MNIST/processed/test.pt")  # of torchvision before 0.9, read if there


def published_digest(config: DatasetConfig) -> str | None:
    """16 hexadecimal digits over the files below dataset.path; None where they are the publishers', or not there yet.

    Raises UserError for a file that cannot be read.
    """
    folder, expected = Path(config.path or ""), PUBLISHED[config.load]
    if config.load == "mnist" and all((folder / name).is_file() for name in FORMER_MNIST):
        expected = dict.fromkeys(FORMER_MNIST, "")
    content = _content(folder, expected)
    if expected | content == PUBLISHED[config.load]:
        return None
    return hashlib.sha256(repr(sorted(content.items())).encode()).hexdigest()[:16]


def are_known_here(config: DatasetConfig) -> bool:
    """Whether all files are there as they were published, or as `note_whole` saw them.

    This asks no torchvision, whose import takes seconds.
    """
    folder, expected, note = Path(config.path or ""), PUBLISHED[config.load], _note(config)
    if config.load in CLASS_NAMES and not (folder / CLASS_NAMES[config.load]).is_file():
        return False
    content = _content(folder, expected)
    return content == expected or (note.is_file() and store.read_json(note) == content)


def note_whole(config: DatasetConfig) -> None:
    """Note that torchvision takes the files that are there."""
    with suppress(UserError):  # digests.py says that the cache cannot be written
        store.write_json(_note(config), _content(Path(config.path or ""), PUBLISHED[config.load]))


def _note(config: DatasetConfig) -> Path:
    place = os.fsencode(Path(config.path or "").resolve())
    return cache_folder() / "published" / f"{hashlib.sha256(place).hexdigest()[:32]}.{config.load}.json"


def _content(folder: Path, expected: Mapping[str, str]) -> dict[str, str]:
    """The MD5 of every expected file that is there."""
    names = [name for name in expected if (folder / name).is_file()]
    return dict(zip(names, digests(folder, names, "md5"), strict=True))
