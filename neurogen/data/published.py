"""Published image datasets, as torchvision reads them.

in:  the config of such a dataset, whose path is the folder in which its files are, or shall be
out: its splits, or one line that says which file is missing or broken, and where

torchvision says of a broken file that it is missing, and would download it again. Here nothing is downloaded in place
of files that are there. Addresses and digests are torchvision's own.
"""

from __future__ import annotations

import gzip
import os
import shlex
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any

from neurogen.config import DatasetConfig
from neurogen.data.published_files import FORMER_MNIST, NUM_UNPACKED, are_known_here, note_whole
from neurogen.downloads.files import Algorithm, Digest, NotBrought, RemoteFile, alone_with
from neurogen.downloads.network import is_offline
from neurogen.downloads.source import Advance, Missing, Source
from neurogen.errors import UserError, one_line
from neurogen.progress import BYTES, Progress

# what torchvision raises where files are missing, cut short or changed
UNREADABLE = (RuntimeError, AssertionError, ValueError, TypeError, LookupError, EOFError, OSError)
BLOCK, LARGEST = 2**20, 2**28  # bytes that are unpacked at once, and of one file
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
    """A split as torchvision reads it from config.path; what is missing is downloaded into it.

    Raises UserError, which names the files, where they are broken, cannot be downloaded or cannot be written.
    """
    dataset = _class_of(config)
    try:
        return dataset(config.path, **split, download=False)
    except UNREADABLE as error:
        source = PublishedSource(config)
        if source.is_here():
            raise UserError(
                f"dataset {config.name}: the files under dataset.path={config.path} cannot be read "
                f"({one_line(error)}); delete them, and put whole ones there or let them be downloaded"
            ) from error
    with Progress(f"fetching {source.name}", source.missing().num_bytes, unit=BYTES) as progress:
        source.bring(progress.advance)
    return dataset(config.path, **split, download=False)


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
        """dataset.path."""
        return Path(self.config.path or "").absolute()

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
        if broken:
            raise UserError(
                f"dataset {self.config.name} is broken: {', '.join(path.name for path in broken)} in "
                f"{broken[0].parent} cut short or changed; delete that, and put the whole there or let it be downloaded"
            )
        return files

    def _absent(self) -> list[PublishedFile]:
        """The files that are read and not here."""
        if self.config.load == "mnist" and all((self.place / name).is_file() for name in FORMER_MNIST):
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

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the dataset for this process. Turns what goes wrong with its files into a UserError."""
        try:
            with alone_with(self.place / f".{self.config.load}.lock", self.name):
                yield
        except NotBrought as error:
            raise UserError(
                f"{self._lacking()} and cannot be downloaded ({error}); put torchvision's files there, or use an "
                "offline dataset: mnist5k, digits"
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

    return {"mnist": datasets.MNIST, "svhn": datasets.SVHN, "cifar10": PlainCIFAR10}[config.load]


def _files_of(dataset: Any, root: Path) -> Iterator[PublishedFile]:
    """The files that torchvision reads, and where they are published."""

    def published(path: Path, *addresses: str, md5: str) -> RemoteFile:
        return RemoteFile(path, addresses, Digest(Algorithm.MD5, md5))

    if hasattr(dataset, "mirrors"):  # MNIST
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


def unpack(archive: Path, paths: list[Path]) -> None:
    """Put these files of an archive in their places, each of them whole."""
    if paths == [archive]:
        return
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    if archive.name.endswith(".tar.gz"):
        with tarfile.open(archive) as packed:
            for path in paths:
                _write(_member(packed, f"{path.parent.name}/{path.name}"), path)
    else:
        for path in paths:
            with gzip.open(archive, "rb") as content:
                _write(content, path)


def _member(packed: tarfile.TarFile, name: str) -> IO[bytes]:
    """The content of a file in an archive. Raises OSError where there is none, or a link in its place."""
    member = packed.getmember(name) if name in packed.getnames() else None
    content = packed.extractfile(member) if member is not None and member.isreg() else None
    if content is None:
        raise OSError(f"the archive has no file {name}")
    return content


def _write(content: IO[bytes] | gzip.GzipFile, path: Path) -> None:
    """Put a file in its place, whole. Raises OSError where it is larger than all files of a published dataset."""
    with NamedTemporaryFile(dir=path.parent, prefix=".unpacking-", delete=False) as file:
        try:
            while block := content.read(BLOCK):
                if file.tell() + len(block) > LARGEST:
                    raise OSError(f"{path.name} is larger than {LARGEST:,} bytes in its archive")
                file.write(block)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def _is_whole_idx(path: Path) -> bool:
    """Whether a file of MNIST has as many bytes as its first bytes say."""
    with path.open("rb") as file:
        head = file.read(IDX_MAGIC + 1)
        num_dimensions = head[IDX_MAGIC] if len(head) > IDX_MAGIC else 0
        sizes = file.read(4 * num_dimensions)
    if num_dimensions == 0 or len(sizes) < 4 * num_dimensions:
        return False
    length = 1
    for first in range(0, len(sizes), 4):
        length *= int.from_bytes(sizes[first : first + 4])
    return os.path.getsize(path) == IDX_MAGIC + 1 + len(sizes) + length
