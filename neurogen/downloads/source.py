"""A source: something outside that steps read, and what is missing of it.

in:  what its subclass knows of it
out: whether it is here, how many bytes are missing, and then the files themselves
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Advance = Callable[[int], object]  # is called with the number of bytes that have come


@dataclass(frozen=True)
class Missing:
    """What is not here yet of a source."""

    num_bytes: int  # to be downloaded
    num_unpacked: int = 0  # bytes that are written besides


class Source(ABC):
    """Something outside that steps read. Two sources with the same name are one."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What the user calls it."""

    @property
    @abstractmethod
    def place(self) -> Path:
        """The folder that it is brought into."""

    @property
    @abstractmethod
    def setting(self) -> str:
        """What says where that is: a key of the config, or a variable."""

    @abstractmethod
    def is_here(self) -> bool:
        """Whether all of it is here; asks no network. Raises UserError where files are here and broken."""

    @abstractmethod
    def missing(self) -> Missing:
        """What is to be brought; may ask the network. Raises UserError where it cannot be had."""

    @abstractmethod
    def bring(self, advance: Advance) -> None:
        """Bring what is missing, under a lock, and count its bytes. Raises UserError where that fails."""
