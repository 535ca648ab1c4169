"""A loss of power: of what a program has written, only that survives which it has flushed to the disk.

in:  the root before the program, its calls up to the loss, the files that it flushed
out: the root as the disk holds it afterwards

A file's content survives up to the length that it had when it was flushed; its name, when the folder was flushed after
it had been given. What was not flushed may survive all the same, each name and each content by itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from random import Random

from tests.faults.interposed import Call


class Loss(StrEnum):
    """What survives of that which was not flushed."""

    ALL = "nothing"
    CONTENT = "names, without what the files hold"
    SOME = "some of it"


@dataclass
class Entry:
    """A file or folder."""

    before: Path | None = None  # where its content lies, if it was there before the program
    is_folder: bool = False
    inode: int = 0
    flushed: int = 0  # bytes
    size: int = 0


@dataclass
class Disk:
    """The names that a program sees, and those that are on the disk."""

    root: Path
    seen: dict[Path, Entry] = field(default_factory=dict)
    on_disk: dict[Path, Entry] = field(default_factory=dict)

    @staticmethod
    def of(root: Path, before: Path) -> Disk:
        """The root as it was in the copy `before`."""
        entries = {root: Entry(is_folder=True)}
        for path in before.rglob("*"):
            entries[root / path.relative_to(before)] = Entry(path, path.is_dir())
        return Disk(root, dict(entries), dict(entries))

    def follow(self, calls: Iterable[Call]) -> None:
        """Do these calls."""
        for call in calls:
            entry = self.seen.get(call.path)
            if call.name in ("create", "mkdir"):
                self.seen[call.path] = Entry(is_folder=call.name == "mkdir")
            elif call.name in ("unlink", "rmdir"):
                self.seen.pop(call.path, None)
            elif call.name == "rename" and entry is not None:
                for path in [path for path in self.seen if path == call.path or call.path in path.parents]:
                    self.seen[call.other / path.relative_to(call.path)] = self.seen.pop(path)
            elif call.name == "fsync" and (entry is None or entry.is_folder):
                names = {path for path in {*self.seen, *self.on_disk} if path.parent == call.path}
                for path in names:
                    self._flush_name(path)
            elif entry is not None and entry.before is None:
                entry.inode, entry.size = call.inode, call.size
                entry.flushed = call.size if call.name == "fsync" else entry.flushed

    def _flush_name(self, path: Path) -> None:
        if path in self.seen:
            self.on_disk[path] = self.seen[path]
        else:
            self.on_disk.pop(path, None)

    def lose_power(self, loss: Loss, kept: Path, rng: Random) -> None:
        """Make the root what the disk holds; `kept` has the flushed files by their inodes."""
        survivors = dict(self.on_disk)
        for path in sorted({*self.seen, *self.on_disk}):
            if loss == Loss.CONTENT or (loss == Loss.SOME and rng.random() < 0.5):
                survivors.pop(path, None)
                survivors |= {path: self.seen[path]} if path in self.seen else {}
        made = self.root.with_name("after power")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        for path in sorted(survivors):
            entry, target = survivors[path], made / path.relative_to(self.root)
            if not target.parent.is_dir() or path == self.root:
                continue  # a folder above it is lost
            if entry.is_folder:
                target.mkdir()
            elif entry.before is not None:
                shutil.copyfile(entry.before, target)
            else:
                content = (kept / str(entry.inode)).read_bytes() if entry.flushed else b""
                target.write_bytes(content[: entry.flushed])
        shutil.rmtree(self.root)
        made.rename(self.root)
