"""Datasets whose files the publishers fixed: where they are, which files are read, and what is in them.

in:  the config of such a dataset
out: the folder of its files, and their digest; None where they are those of the publishers, or not there yet

So results do not depend on when the files were downloaded, and files of the same names with other content are noticed.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from neurogen import store
from neurogen.cache import cache_folder
from neurogen.config import DatasetConfig
from neurogen.digests import digests
from neurogen.errors import UserError

MNIST = "MNIST/raw"
FASHION_MNIST = "FashionMNIST/raw"
CIFAR10 = "cifar-10-batches-py"
# MD5, as the publishers and torchvision give it
PUBLISHED = {
    "mnist": {
        f"{MNIST}/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        f"{MNIST}/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        f"{MNIST}/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        f"{MNIST}/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion_mnist": {
        f"{FASHION_MNIST}/train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        f"{FASHION_MNIST}/train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        f"{FASHION_MNIST}/t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        f"{FASHION_MNIST}/t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
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
# MD5 of the same files, packed and directly in a folder: as published, and as Debian packs them
PACKED = {
    "mnist": (
        {
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "fashion_mnist": (
        {
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
        {
            "train-images-idx3-ubyte.gz": "cf8536b0aa1a6ac5fa3f23001093305c",
            "train-labels-idx1-ubyte.gz": "10bea18fdb374794d4bb42e356e600c9",
            "t10k-images-idx3-ubyte.gz": "f78720b4224f21cce2f2ccf2d7a94c9a",
            "t10k-labels-idx1-ubyte.gz": "0d30e22e447f3c33dab9ed536400ac01",
        },
    ),
}
DEBIAN = {"fashion_mnist": Path("/usr/share/datasets/fashion-mnist")}  # of the package dataset-fashion-mnist
DOWNLOADS = "data"  # the folder where neither dataset.path nor Debian gives one
CLASS_NAMES = {"cifar10": f"{CIFAR10}/batches.meta"}  # torchvision reads it, and no result depends on it
# bytes in their archives
NUM_UNPACKED = {"mnist": 54_950_048, "fashion_mnist": 54_950_048, "cifar10": 186_214_000, "svhn": 0}
FORMER = {  # of torchvision before 0.9, read if there
    "mnist": ("MNIST/processed/training.pt", "MNIST/processed/test.pt"),
    "fashion_mnist": ("FashionMNIST/processed/training.pt", "FashionMNIST/processed/test.pt"),
}


def place_of(config: DatasetConfig) -> Path:
    """dataset.path; where that is null, the folder of Debian's package if it is installed, or else `data`."""
    if config.path is not None:
        return Path(config.path)
    debian = DEBIAN.get(config.load)
    return debian if debian is not None and debian.is_dir() else Path(DOWNLOADS)


def packed_files(config: DatasetConfig) -> list[Path]:
    """The packed files, where all of them are directly in the folder; they are read as they are."""
    names = PACKED[config.load][0] if config.load in PACKED else {}
    files = [place_of(config) / name for name in names]
    return files if all(path.is_file() for path in files) else []


def is_former(config: DatasetConfig) -> bool:
    """Whether the files are those of a former torchvision."""
    return config.load in FORMER and all((place_of(config) / name).is_file() for name in FORMER[config.load])


def published_digest(config: DatasetConfig) -> str | None:
    """16 hexadecimal digits over the files in the folder; None where they are the publishers', or not there yet.

    Raises UserError for a file that cannot be read.
    """
    content = _content(config)
    if any(expected | content == expected for expected in _published(config)):
        return None
    return hashlib.sha256(repr(sorted(content.items())).encode()).hexdigest()[:16]


def are_known_here(config: DatasetConfig) -> bool:
    """Whether all files are there as they were published, or as `note_whole` saw them.

    This asks no torchvision, whose import takes seconds.
    """
    note = _note(config)
    if config.load in CLASS_NAMES and not (place_of(config) / CLASS_NAMES[config.load]).is_file():
        return False
    content = _content(config)
    return content in _published(config) or (note.is_file() and store.read_json(note) == content)


def note_whole(config: DatasetConfig) -> None:
    """Note that torchvision takes the files that are there."""
    with suppress(UserError):  # digests.py says that the cache cannot be written
        store.write_json(_note(config), _content(config))


def _note(config: DatasetConfig) -> Path:
    place = os.fsencode(place_of(config).resolve())
    return cache_folder() / "published" / f"{hashlib.sha256(place).hexdigest()[:32]}.{config.load}.json"


def _published(config: DatasetConfig) -> tuple[dict[str, str], ...]:
    """The MD5 of the files by their names, in each of the forms in which they are published."""
    return (PUBLISHED[config.load], *PACKED.get(config.load, ()))


def _content(config: DatasetConfig) -> dict[str, str]:
    """The MD5 of every file that is read and there, by its name below the folder."""
    folder = place_of(config)
    if packed := packed_files(config):
        names = [path.name for path in packed]
    else:
        read = FORMER[config.load] if is_former(config) else PUBLISHED[config.load]
        names = [name for name in read if (folder / name).is_file()]
    return dict(zip(names, digests(folder, names, "md5"), strict=True))
