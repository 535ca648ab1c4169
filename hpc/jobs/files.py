"""Files that several processes read and replace.

in:  the content of a file
out: the file, whole or not at all, which outlasts a loss of power; what a file holds; ClusterError with its name
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from uuid import uuid4

from hpc.errors import ClusterError, Unwritable, one_line

Value = TypeVar("Value")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn failed writes into Unwritable, which names `path` and says what to do."""
    try:
        yield
    except OSError as error:
        reason, to_do = error.strerror or error, "remove it" if error.errno == errno.ELOOP else "free some space"
        raise Unwritable(f"cannot write {path} ({reason}); {to_do}, then the same command goes on") from error


def open_to_append(path: Path) -> BinaryIO:
    """Open a file that grows. Raises Unwritable, also where it is a link: another file would grow."""
    with writing(path):
        return open(path, "ab", opener=not_through_a_link)


def not_through_a_link(path: str, flags: int, mode: int = 0o666) -> int:
    """For the argument `opener` of `open`."""
    return os.open(path, flags | os.O_NOFOLLOW, mode)


def write_bytes(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write or replace a file atomically: whoever reads it gets the old content or the new one, never a part.

    Its rights are `mode`, whatever the umask; None: those that the umask leaves. Raises Unwritable.
    """
    temporary = path.with_suffix(f".{uuid4().hex[:12]}.tmp")  # nodes share process ids
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(
                temporary, "xb", opener=partial(not_through_a_link, mode=0o666 if mode is None else mode)
            ) as file:
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                file.write(content)
            put_in_place(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, values: Any) -> None:
    """As `write_bytes`, what JSON can hold."""
    write_bytes(path, (json.dumps(values, indent=1) + "\n").encode())


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a file or folder that is written; it and its name are on the disk when this returns. Raises OSError."""
    for written in (temporary, *temporary.rglob("*")):
        if not written.is_symlink():
            flush(written)
    os.replace(temporary, path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise  # some network file systems flush names by themselves, and refuse to be asked
    finally:
        os.close(descriptor)


def read_json(path: Path, make: Callable[[Any], Value], advice: str) -> Value:
    """What `make` makes of the values in a file. Raises ClusterError with this advice where it is missing or broken."""
    try:
        return make(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ClusterError(f"{path} is broken ({type(error).__name__}: {one_line(error)}); {advice}") from error
