"""A folder on disk as a tree of pictures, before any of them is read.

in:  a folder; links are followed
out: its pictures and sub-folders in the order of their names, and a count of everything that is no picture

A picture has a known ending in any case, or no ending and the first bytes of a picture. What begins with a dot, what
operating systems leave behind, and folders with results of this program are left out.

No torch here, no look into files that have an ending, and paths as plain strings: whenever a command starts, the
identity of the data is computed from this, and there may be 100,000 pictures.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from neurogen.config import StepKind
from neurogen.errors import UserError
from neurogen.store import ROOT_MARKER

PICTURE_SUFFIXES = frozenset(
    ".apng .bmp .dib .gif .jfif .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()
)
SIGNATURES = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|II[*+]\0|MM\0[*+]|RIFF.{4}WEBP|P[1-6]\s+[\d#]"
    rb"|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    re.DOTALL,
)
LONGEST_SIGNATURE = 18  # bytes
SYSTEM_FOLDERS = frozenset(("__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information"))
RESULTS = frozenset((*StepKind, "data"))  # what a folder with results has inside

HIDDEN_FOLDERS, HIDDEN_FILES = ("hidden folder", "hidden folders"), ("hidden file", "hidden files")
OTHER_ROOTS = ("folder with results of this program", "folders with results of this program")
LOOPS = ("link to a folder around it", "links to a folder around them")
SPECIAL = ("device or pipe", "devices and pipes")
Reason = tuple[str, str]  # what was left out, for one and for several


@dataclass(frozen=True, eq=False)
class FolderTree:
    """A folder with its pictures and sub-folders; `left_out` counts what else lies directly in it."""

    path: str
    items: tuple[str | FolderTree, ...]  # paths of pictures, and folders, in the order of their names
    left_out: Counter[Reason]

    @property
    def name(self) -> str:
        """Its last part."""
        return os.path.basename(self.path)

    @property
    def folders(self) -> list[FolderTree]:
        """The folders directly in it."""
        return [item for item in self.items if isinstance(item, FolderTree)]

    @property
    def own_pictures(self) -> list[str]:
        """The pictures directly in it."""
        return [item for item in self.items if isinstance(item, str)]

    @cached_property
    def has_pictures(self) -> bool:
        """Whether there is a picture in it or below it."""
        return any(isinstance(item, str) or item.has_pictures for item in self.items)

    def pictures(self) -> Iterator[str]:
        """All pictures in it and below it, in the order of their names."""
        for item in self.items:
            if isinstance(item, FolderTree):
                yield from item.pictures()
            else:
                yield item

    def left_out_below(self) -> Counter[Reason]:
        """What was left out in it and below it."""
        return sum((folder.left_out_below() for folder in self.folders), self.left_out.copy())


def read_tree(path: str | Path) -> FolderTree:
    """The tree below a folder.

    Raises UserError for a folder that cannot be read, and for a link to nothing.
    """
    return _read(os.fspath(path), (os.path.realpath(path),))


def _read(folder: str, trail: tuple[str, ...]) -> FolderTree:
    """`trail` holds the real places of the folder and of those around it, by which links that lead back are known."""
    items: list[str | FolderTree] = []
    left_out: Counter[Reason] = Counter()
    entries = _entries(folder)
    has_results = any(entry.name == ROOT_MARKER for entry in entries)
    for entry in entries:
        if entry.is_dir():
            if _is_hidden(entry.name):
                left_out[HIDDEN_FOLDERS] += 1
                continue
            real = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(trail[-1], entry.name)
            if (has_results and entry.name in RESULTS) or os.path.exists(os.path.join(entry.path, ROOT_MARKER)):
                left_out[OTHER_ROOTS] += 1
            elif any(os.path.join(place, "").startswith(os.path.join(real, "")) for place in trail):
                left_out[LOOPS] += 1
            else:
                items.append(_read(entry.path, (*trail, real)))
        elif reason := _not_read(entry):
            left_out[reason] += entry.name != ROOT_MARKER
        else:
            items.append(entry.path)
    return FolderTree(folder, tuple(items), +left_out)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What lies in the folder, in the order of names."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}); mend that, or move the folder away") from error


def _not_read(entry: os.DirEntry[str]) -> Reason | None:
    """Why a file is no picture; None for a picture."""
    if _is_hidden(entry.name):
        return HIDDEN_FILES
    if not entry.is_file():
        if entry.is_symlink():
            raise UserError(f"{entry.path} is a link to nothing; mend or remove it")
        return SPECIAL
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix in PICTURE_SUFFIXES or (suffix in ("", ".") and _has_signature(entry.path)):
        return None
    return (f"file {suffix}", f"files {suffix}") if suffix else ("file without an ending", "files without an ending")


def _is_hidden(name: str) -> bool:
    """Whether a name is none of the user's own."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def _has_signature(path: str) -> bool:
    """Whether the first bytes are those of a picture."""
    try:
        with open(path, "rb") as file:
            return SIGNATURES.match(file.read(LONGEST_SIGNATURE)) is not None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); mend that, or move the file away") from error
