"""What nobody but this account can have written, under a root that other accounts may write into.

in:  files and folders below the root
out: the content of a file; folders that others cannot enter, write into or rename; ClusterError where somebody else may
     have been there

A job does what its files say, with the rights of its account. So these must be the account's own. It also opens files
whose names others can guess: its log, the probe of a site check. So these lie where nobody else can put a link.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from hpc.errors import ClusterError

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
AGAIN = "submit again"
AWAY = f"remove it once its jobs have ended, and {AGAIN}"


def read_owned(path: Path) -> bytes:
    """The content of a file. Raises ClusterError where it is no regular file that only this account may write.

    The file that was opened is the one that is looked at, so nobody can put another in its place in between.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe would wait for a writer
    except OSError as error:
        raise ClusterError(f"{path} cannot be read, or is a link ({error.strerror}); {AGAIN}") from error
    with open(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise ClusterError(f"{path} is no file; {AGAIN}")
        _require_own(path, about)
        return file.read()


def private_folder(path: Path) -> Path:
    """The folder, which is made where it is missing and which only this account can enter.

    Says where others could put another folder in place of the one above it. Raises ClusterError where it is a link, or
    another account's, or where others may have written into it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _keep_in_place(path.parent)
    _warn_of_parents(path.parent.absolute())
    _require_own_folder(path, 0o700)
    if stat.S_IMODE(path.lstat().st_mode) & 0o1077:  # since then, somebody has let others read the whole root
        path.chmod(0o700)
    return path


def shared_folder(path: Path) -> Path:
    """The folder, which is made where it is missing, and in which every account may only rename what is its own.

    Its owner can rename everything. So that must be this account, or the owner of the folder above. Raises ClusterError
    where another account owns it, or a link stands in its place.
    """
    path = path.absolute()
    parent = path.parent
    parent.mkdir(parents=True, exist_ok=True)
    _keep_in_place(parent)
    owner = parent.stat().st_uid
    to_do = (
        f"the owner of {parent} (the account {owner}) has to run chmod g+ws,+t {parent}; mkdir {path}; "
        f"chmod g+ws,+t {path}; or give a root= of your own"
    )
    if not os.path.lexists(path) and parent.stat().st_mode & OTHERS_WRITE and owner != os.geteuid():
        raise ClusterError(f"{path} is missing, and its owner can rename what your jobs write; {to_do}")
    about = _made(path, 0o777)
    if about.st_uid not in (os.geteuid(), owner, 0):
        raise ClusterError(
            f"{path} belongs to the account {about.st_uid}, which can rename what your jobs write there; move it away "
            f"once its jobs have ended; then {to_do}"
        )
    _keep_in_place(path)
    return path


@contextmanager
def opened_folder(path: Path) -> Iterator[int]:
    """A descriptor of the folder, which is made where it is missing: what is done to it is done to no other one.

    Raises ClusterError where it is a link or a file.
    """
    _made(path, 0o777)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def own_folder(path: Path) -> Path:
    """The folder, which is made where it is missing, and into which only this account can write, whatever the umask.

    Raises ClusterError where it is a link, or another account's, or open to others.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return _require_own_folder(path, 0o755)


def _require_own_folder(path: Path, mode: int) -> Path:
    _require_own(path, _made(path, mode), AWAY)
    return path


def _made(path: Path, mode: int) -> os.stat_result:
    """Make a folder where it is missing, and look at it, not at what a link in its place leads to."""
    with suppress(FileExistsError):
        path.mkdir(mode)
    about = path.lstat()
    if not stat.S_ISDIR(about.st_mode):
        raise ClusterError(f"{path} is no folder but a link or a file; remove it, and {AGAIN}")
    return about


def _keep_in_place(parent: Path) -> None:
    """Let nobody who may write into `parent` rename what lies in it, except its owner.

    Raises ClusterError where only the owner could see to that.
    """
    about = parent.stat()
    if not about.st_mode & OTHERS_WRITE or about.st_mode & stat.S_ISVTX:
        return
    if about.st_uid != os.geteuid():
        raise ClusterError(
            f"others may write into {parent}, and replace there what your jobs run and write; its owner has to run "
            f"chmod +t {parent}"
        )
    parent.chmod(stat.S_IMODE(about.st_mode) | stat.S_ISVTX)


@cache
def _warn_of_parents(folder: Path) -> None:
    """Say once which folders above let others rename this one, and what lies on the way to it.

    No refusal: a project's folder is often like that, and a user can neither change it nor go elsewhere. Jobs look
    again whose code they find.
    """
    for parent in sorted({*folder.parents, *folder.resolve().parents}):
        mode = parent.stat().st_mode
        if mode & OTHERS_WRITE and not mode & stat.S_ISVTX:
            print(
                f"  warning: others may write into {parent}, and put a folder of theirs in place of yours there; its "
                f"owner should run chmod +t {parent}, or give a root= elsewhere",
                file=sys.stderr,
                flush=True,
            )


def _require_own(path: Path, about: os.stat_result, to_do: str = AGAIN) -> None:
    if about.st_uid != os.geteuid():
        raise ClusterError(
            f"{path} belongs to the account {about.st_uid}, and this is {os.geteuid()}; a job runs nothing of others: "
            f"remove it, and {AGAIN}"
        )
    if about.st_mode & OTHERS_WRITE:
        raise ClusterError(f"{path} may be written by others (mode {stat.S_IMODE(about.st_mode):o}); {to_do}")
