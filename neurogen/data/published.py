"""Published image datasets, as torchvision reads them.

in:  the config of such a dataset, which says the folder in which its files are, or shall be
out: its splits, or one line that says which file is missing or broken, and where

torchvision says of a broken file that it is missing, and would download it again. Here nothing is downloaded in place
of files that are there. Addresses and digests are torchvision's own.
"""

from __future__ import annotations

import gzip
import os
import shlex
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from neurogen.config import DatasetConfig
from neurogen.data.archives import unpack
from neurogen.data.published_files import (
    DEBIAN,
    NUM_UNPACKED,
    are_known_here,
    is_former,
    note_whole,
    packed_files,
    place_of,
)
from neurogen.downloads.files import Algorithm, Digest, NotBrought, RemoteFile, alone_with
from neurogen.downloads.network import is_offline
from neurogen.downloads.source import Advance, Missing, Source
from neurogen.errors import UserError, one_line
from neurogen.progress import BYTES, Progress

# what torchvision raises where files are missing, cut short or changed
UNREADABLE = (RuntimeError, AssertionError, ValueError, TypeError, LookupError, EOFError, OSError, zlib.error)
IDX_MAGIC = 3  # bytes before the number of dimensions, which is one byte; then 4 bytes for each


@dataclass(frozen=True)
class PublishedFile:
    """A file that is read, its published digest, and the archive that it is in; IDX files say their own length."""

    path: Path
    md5: str | None
    archive: RemoteFile  # the file itself, where it is published as it is read

    @property
    def is_whole(self) -> bool:
        """Whether the file is there as it was published."""
        if self.md5 is None:
            return _is_whole_idx(self.path)
        return Digest(Algorithm.MD5, self.md5).is_of(self.path)


def read_published(config: DatasetConfig, **split: Any) -> Any:
    """A split as torchvision reads it from the folder of the files; what is missing is downloaded into it.

    Raises UserError, which names the files, where they are broken, cannot be downloaded or cannot be written.
    """
    dataset, place = _class_of(config), place_of(config)
    try:
        if packed := packed_files(config):
            return _unpacked(dataset, packed, **split)
        return dataset(place, **split, download=False)
    except UNREADABLE as error:
        source = PublishedSource(config)
        if source.is_here():
            raise UserError(
                f"dataset {config.name}: the files under dataset.path={place} cannot be read "
                f"({one_line(error)}); delete them, and put whole ones there or let them be downloaded"
            ) from error
    with Progress(f"fetching {source.name}", source.missing().num_bytes, unit=BYTES) as progress:
        source.bring(progress.advance)
    return dataset(place, **split, download=False)


@dataclass(frozen=True)
class PublishedSource(Source):
    """A published dataset as a source."""

    config: DatasetConfig

    @property
    def name(self) -> str:
        """The dataset."""
        return f"dataset {self.config.load}"

    @property
    def place(self) -> Path:
        """The folder of its files."""
        return place_of(self.config).absolute()

    @property
    def setting(self) -> str:
        """The key of its path."""
        return "dataset.path"

    def is_here(self) -> bool:
        """Whether torchvision could read it. Raises UserError where files are here, and broken."""
        if are_known_here(self.config):
            return True
        if self._absent():
            return False
        note_whole(self.config)
        return True

    def missing(self) -> Missing:
        """What is to be downloaded and unpacked. Raises UserError where it cannot be."""
        archives = self._archives()
        with self._alone():
            num_bytes = sum(max(0, (archive.size() or 0) - archive.num_here) for archive in archives)
        return Missing(num_bytes, NUM_UNPACKED[self.config.load])

    def bring(self, advance: Advance) -> None:
        """Download and unpack what is missing. Raises UserError where that cannot be done."""
        with self._alone():
            packed = self._packed()
            for archive in self._archives():
                archive.path.parent.mkdir(parents=True, exist_ok=True)
                archive.bring(advance)
            for archive, paths in packed.items():
                unpack(archive.path, paths)

    def _files(self) -> list[PublishedFile]:
        """All files that are read. Raises UserError where one of them, or an archive, is here and broken."""
        files = list(_files_of(_class_of(self.config), self.place))
        broken = [file.path for file in files if file.path.exists() and not file.is_whole]
        archives = {file.archive for file in files if file.archive.path != file.path}
        broken += [file.path for file in archives if file.path.exists() and not file.digest.is_of(file.path)]
        self._refuse(broken)
        return files

    def _refuse(self, broken: Sequence[Path]) -> None:
        """Raises UserError where there is a broken file."""
        if broken:
            raise UserError(
                f"dataset {self.config.name} is broken: {', '.join(path.name for path in broken)} in "
                f"{broken[0].parent} cut short or changed; delete that, and put the whole there or let it be downloaded"
            )

    def _absent(self) -> list[PublishedFile]:
        """The files that are read and not here."""
        packed = packed_files(self.config)
        self._refuse([path for path in packed if not _is_whole_idx(path)])
        if packed or is_former(self.config):
            return []
        return [file for file in self._files() if not file.path.exists()]

    def _packed(self) -> dict[RemoteFile, list[Path]]:
        """The files that are not here by the archives that they are in."""
        packed: dict[RemoteFile, list[Path]] = {}
        for file in self._absent():
            packed.setdefault(file.archive, []).append(file.path)
        return packed

    def _archives(self) -> list[RemoteFile]:
        """What is to be downloaded. Raises UserError where that is something, and nothing may be."""
        archives = [archive for archive in self._packed() if not archive.path.exists()]
        if archives and is_offline():
            command = ["neurogen", "fetch", f"dataset={self.config.load}", f"dataset.path={self.place}"]
            raise UserError(
                f"{self._lacking()}, and nothing is downloaded here (HF_HUB_OFFLINE=1); where there is a network, run "
                f"`{shlex.join(command)} backbone=tiny_llama`"
            )
        return archives

    def _lacking(self) -> str:
        missing = ", ".join(file.path.name for file in self._absent())
        return f"dataset {self.config.name} is not under dataset.path={self.place} (missing: {missing})"

    def _debian(self) -> str:
        return f", or apt-get install dataset-{DEBIAN[self.config.load].name}" if self.config.load in DEBIAN else ""

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the dataset for this process. Turns what goes wrong with its files into a UserError."""
        try:
            with alone_with(self.place / f".{self.config.load}.lock", self.name):
                yield
        except NotBrought as error:
            raise UserError(
                f"{self._lacking()} and cannot be downloaded ({error}); put torchvision's files there{self._debian()}, "
                "or use an offline dataset: mnist5k, digits"
            ) from error
        except OSError as error:
            raise UserError(
                f"dataset {self.config.name} cannot be written into dataset.path={self.place} ({one_line(error)}); "
                "give a folder that can be written"
            ) from error


def _class_of(config: DatasetConfig) -> Any:
    """The class of torchvision that reads the dataset, or one of ours that is derived from it."""
    from torchvision import datasets

    from neurogen.data.cifar10 import PlainCIFAR10

    return {
        "mnist": datasets.MNIST,
        "fashion_mnist": datasets.FashionMNIST,
        "svhn": datasets.SVHN,
        "cifar10": PlainCIFAR10,
    }[config.load]


def _files_of(dataset: Any, root: Path) -> Iterator[PublishedFile]:
    """The files that torchvision reads, and where they are published."""

    def published(path: Path, *addresses: str, md5: str) -> RemoteFile:
        return RemoteFile(path, addresses, Digest(Algorithm.MD5, md5))

    if hasattr(dataset, "mirrors"):  # MNIST, Fashion-MNIST
        folder = root / dataset.__name__ / "raw"
        for name, md5 in dataset.resources:
            archive = published(folder / name, *(f"{mirror}{name}" for mirror in dataset.mirrors), md5=md5)
            yield PublishedFile(folder / Path(name).stem, None, archive)
    elif hasattr(dataset, "tgz_md5"):  # CIFAR-10
        archive = published(root / dataset.filename, dataset.url, md5=dataset.tgz_md5)
        lists = [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])]
        for name, md5 in lists:
            yield PublishedFile(root / dataset.base_folder / name, md5, archive)
    else:
        for split in ("train", "test"):
            address, name, md5 = dataset.split_list[split]
            yield PublishedFile(root / name, md5, published(root / name, address, md5=md5))


def _unpacked(dataset: Any, packed: Sequence[Path], **split: Any) -> Any:
    """A split as torchvision reads it from packed files, whose folder stays as it is."""
    with TemporaryDirectory() as folder:
        raw = Path(folder, dataset.__name__, "raw")
        for path in packed:
            unpack(path, [raw / path.stem])
        return dataset(folder, **split, download=False)


def _is_whole_idx(path: Path) -> bool:
    """Whether a file of MNIST, packed or not, has as many bytes as its first bytes say."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(IDX_MAGIC + 1)
            num_dimensions = head[IDX_MAGIC] if len(head) > IDX_MAGIC else 0
            sizes = file.read(4 * num_dimensions)
            num_bytes = file.seek(0, os.SEEK_END)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return False
    if num_dimensions == 0 or len(sizes) < 4 * num_dimensions:
        return False
    length = 1
    for first in range(0, len(sizes), 4):
        length *= int.from_bytes(sizes[first : first + 4])
    return num_bytes == IDX_MAGIC + 1 + len(sizes) + length
