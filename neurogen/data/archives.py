"""Files out of an archive: those that are asked for, whole, and nothing else.

in:  FILE.gz, or FOLDER.tar.gz
out: files in their places, or OSError; no link is followed, and none is larger than any that was published
"""

from __future__ import annotations

import gzip
import os
import tarfile
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

BLOCK, LARGEST = 2**20, 2**28  # bytes that are unpacked at once, and of one file


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
