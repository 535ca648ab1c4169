"""Bringing sources here, before anything needs them.

in:  sources
out: their files in their places; on the way what is missing, its size and its place, and progress

Nothing is asked of the network where everything is here. Space is compared before the first byte.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neurogen.downloads.source import Missing, Source
from neurogen.errors import UserError
from neurogen.progress import BYTES, Progress, in_bytes

SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True)
class Needed:
    """A source that is not here, and what is missing of it."""

    source: Source
    missing: Missing

    @property
    def line(self) -> str:
        """What is brought, how large, where to."""
        unpacked = f" + {in_bytes(self.missing.num_unpacked)} unpacked" if self.missing.num_unpacked else ""
        return f"{self.source.name}: {in_bytes(self.missing.num_bytes)}{unpacked} → {placed(self.source)}"


def fetch(sources: Sequence[Source], say_all: bool = False) -> None:
    """Bring what is missing; with `say_all` also say what is here.

    Raises UserError where it cannot be had or kept, where there is no room for it, and offline.
    """
    absent = [source for source in sources if not source.is_here()]
    if say_all:
        for source in sources:
            if source not in absent:
                print(f"  here   {source.name} in {placed(source)}", flush=True)
        if not sources:
            print("  nothing is read from outside", flush=True)
    if not absent:
        return
    needed = [Needed(source, source.missing()) for source in absent]
    require_space(needed)
    for item in needed:
        print(f"  fetch  {item.line}", flush=True)
    with Progress("fetching", sum(item.missing.num_bytes for item in needed), unit=BYTES) as progress:
        for item in needed:
            item.source.bring(progress.advance)


def wait_for(sources: Sequence[Source]) -> None:
    """Wait until another process has brought all of them here."""
    while not all(source.is_here() for source in sources):
        time.sleep(SECONDS_BETWEEN_LOOKS)


def placed(source: Source) -> str:
    """The folder of a source, and what sets it."""
    return f"{source.place} ({source.setting})"


def require_space(needed: Sequence[Needed]) -> None:
    """Raises UserError where a file system has too little room for what is to be written there."""
    groups: dict[int, list[Needed]] = defaultdict(list)
    for item in needed:
        groups[os.stat(existing(item.source.place)).st_dev].append(item)
    for items in groups.values():
        place = items[0].source.place
        num_bytes = sum(item.missing.num_bytes + item.missing.num_unpacked for item in items)
        free = shutil.disk_usage(existing(place)).free
        if num_bytes > free:
            raise UserError(
                f"there is too little space for what is to be fetched: {in_bytes(num_bytes)} are needed, "
                f"{in_bytes(free)} are free ({'; '.join(item.line for item in items)}); free some, or choose other "
                f"folders: {', '.join(dict.fromkeys(item.source.setting for item in items))}"
            )


def existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())
