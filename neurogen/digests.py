"""Digests of files by their content, kept so that a file that has not changed is not read again.

in:  a folder and the names of files in it
out: the digest of every file, SHA-256 unless another algorithm is asked for

A kept digest counts while size, inode and both times of the file are the same. Digests of files that changed a moment
ago are not kept: the next change might leave all of these as they are, since a file system's clock may be coarse.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

from neurogen import store
from neurogen.cache import cache_folder
from neurogen.errors import UserError, one_line
from neurogen.progress import Progress

SETTLED_S = 3.0  # the coarsest clock of a file system is FAT's, with 2 s
MANY_FILES, MANY_BYTES = 5000, 300_000_000  # take a second or more to read
NUM_READERS = 8  # at a time: a shared file system answers late


class KeptDigest(NamedTuple):
    """The digest of a file, and what says whether the file is still the same."""

    mark: str
    digest: str


def digests(folder: Path, names: Sequence[str], algorithm: str = "sha256") -> list[str]:
    """The digest of each file folder/NAME, links followed, as hexadecimal digits; `algorithm` is a name of hashlib's.

    Raises UserError for a file that cannot be read.
    """
    kept = _kept(folder, algorithm)
    try:
        marks = _marks(folder, names)
        unread = [name for name, mark in zip(names, marks, strict=True) if name not in kept or kept[name].mark != mark]
        contents = dict(zip(unread, _read(folder, unread, algorithm), strict=True))
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}); repair or remove it") from error
    results = [contents.get(name) or kept[name].digest for name in names]
    if contents:
        _keep(folder, algorithm, dict(zip(names, map(KeptDigest, marks, results), strict=True)), contents)
    return results


def _marks(folder: Path, names: Sequence[str]) -> list[str]:
    """What is the same for an unchanged file: size, inode, last change of its content and of its status (ns)."""
    marks, prefix = [], f"{folder}/" if names != [""] else str(folder)
    for name in names:
        status = os.stat(prefix + name)
        marks.append(f"{status.st_size} {status.st_ino} {status.st_mtime_ns} {status.st_ctime_ns}")
    return marks


def _read(folder: Path, names: Sequence[str], algorithm: str) -> list[str]:
    """The digests of files that must be read; says how far it is where that takes long."""

    def digest(name: str) -> str:
        with (folder / name).open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()

    with ThreadPoolExecutor(NUM_READERS) as readers:
        results = readers.map(digest, names)
        if len(names) < MANY_FILES and sum((folder / name).stat().st_size for name in names) < MANY_BYTES:
            return list(results)
        with Progress(f"reading {folder}", len(names), unit="files") as progress:
            contents = []
            for result in results:
                contents.append(result)
                progress.advance()
            return contents


def _path(folder: Path, algorithm: str) -> Path:
    """The file in which the digests of a folder are kept."""
    place = os.fsencode(folder.resolve())
    return cache_folder() / "digests" / f"{hashlib.sha256(place).hexdigest()[:32]}.{algorithm}.json"


def _kept(folder: Path, algorithm: str) -> dict[str, KeptDigest]:
    """The kept digests by the names of their files; none, where they cannot be read or an earlier version kept them."""
    try:
        kept = json.loads(_path(folder, algorithm).read_bytes())
        return {name: KeptDigest(*entry) for name, entry in kept.items()}
    # TypeError and AttributeError: other JSON. UserError, of an account without a home, is a ValueError.
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _keep(folder: Path, algorithm: str, known: dict[str, KeptDigest], new: Collection[str]) -> None:
    """Write those of settled files, if there are `new` ones among them."""
    latest = time.time_ns() - SETTLED_S * 1e9
    settled = {name: entry for name, entry in known.items() if max(map(int, entry.mark.split()[2:])) < latest}
    if settled.keys().isdisjoint(new):
        return
    try:
        store.write_text(_path(folder, algorithm), json.dumps(settled))
    except UserError as error:
        _say_not_kept(one_line(error.__cause__ or error))


@cache
def _say_not_kept(cause: str) -> None:
    """Once in a process."""
    print(
        f"  digests of files cannot be kept, so all files of the data are read every time ({cause}); set "
        "NEUROGEN_CACHE=FOLDER to one that can be written",
        file=sys.stderr,
    )
