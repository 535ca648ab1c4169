"""Published image datasets, as torchvision reads and downloads them.

in:  a class of torchvision.datasets; the folder in which its files are, or shall be
out: the dataset, or one line that says which file is missing or broken, and where

torchvision says of a broken file that it is missing, and would download it again. Here nothing is downloaded in place
of files that are there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchvision.datasets import CIFAR10, MNIST, SVHN
from torchvision.datasets.utils import check_integrity

from neurogen.config import DatasetConfig
from neurogen.errors import UserError, one_line

# what torchvision raises where files are missing, cut short or changed
UNREADABLE = (RuntimeError, AssertionError, ValueError, TypeError, LookupError, EOFError, OSError)
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOSPC, errno.EDQUOT)
IDX_MAGIC = 3  # bytes before the number of dimensions, which is one byte; then 4 bytes for each


@dataclass(frozen=True)
class PublishedFile:
    """A file and its published digest; IDX files without one say their own length."""

    path: Path
    md5: str | None
    is_archive: bool = False  # an archive need not be there where its content is

    @property
    def is_whole(self) -> bool:
        """Whether the file is there as it was published."""
        return check_integrity(self.path, self.md5) if self.md5 is not None else _is_whole_idx(self.path)


def read_published(dataset: Any, config: DatasetConfig, **split: Any) -> Any:
    """A torchvision dataset from config.path; what is missing is downloaded into it.

    Raises UserError, which names the files, where they are broken, cannot be downloaded or cannot be written.
    """
    try:
        return dataset(config.path, **split, download=False)
    except UNREADABLE as error:
        missing = _missing(dataset, config, split, error)
    try:
        return dataset(config.path, **split, download=True)
    except (OSError, RuntimeError) as error:
        if getattr(error, "errno", None) in UNWRITABLE:
            raise UserError(
                f"dataset {config.name} cannot be written into dataset.path={config.path} ({one_line(error)}); give a "
                "folder that can be written"
            ) from error
        raise UserError(
            f"dataset {config.name} is not under dataset.path={config.path} (missing: {', '.join(missing)}) and cannot "
            f"be downloaded ({one_line(error)}); put torchvision's files there, or use an offline dataset: mnist5k, "
            "digits"
        ) from error


def _missing(dataset: Any, config: DatasetConfig, split: dict[str, Any], error: Exception) -> list[str]:
    """The files that are not there, archives aside. Raises UserError where files are there, and broken."""
    files = list(_files(dataset, Path(config.path or ""), split))
    broken = [file.path for file in files if file.path.exists() and not file.is_whole]
    missing = [file.path.name for file in files if not file.is_archive and not file.path.exists()]
    if broken:
        raise UserError(
            f"dataset {config.name} is broken: {', '.join(path.name for path in broken)} in {broken[0].parent} cut "
            "short or changed; delete that, and put the whole there or let it be downloaded"
        ) from error
    if not missing:
        raise UserError(
            f"dataset {config.name}: the files under dataset.path={config.path} cannot be read ({one_line(error)}); "
            "delete them, and put whole ones there or let them be downloaded"
        ) from error
    return missing


def _files(dataset: Any, root: Path, split: dict[str, Any]) -> Iterator[PublishedFile]:
    """The files that torchvision reads for a split, and the archives that it makes them of."""
    if issubclass(dataset, MNIST):
        folder = root / dataset.__name__ / "raw"
        for archive, md5 in dataset.resources:
            yield PublishedFile(folder / Path(archive).stem, None)
            yield PublishedFile(folder / archive, md5, is_archive=True)
    elif issubclass(dataset, CIFAR10):
        lists = [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])]
        for name, md5 in lists:
            yield PublishedFile(root / dataset.base_folder / name, md5)
        yield PublishedFile(root / dataset.filename, dataset.tgz_md5, is_archive=True)
    else:
        assert issubclass(dataset, SVHN)
        _, name, md5 = dataset.split_list[split["split"]]
        yield PublishedFile(root / name, md5)


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
