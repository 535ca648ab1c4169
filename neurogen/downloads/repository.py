"""A repository of the Hugging Face Hub, as it lies in the cache of huggingface_hub.

in:  its kind and its name
out: its folder, and that of the revision that is here
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

BRANCH = "main"


def hub_cache() -> Path:
    """The cache of huggingface_hub, as the environment says now."""
    from huggingface_hub import constants

    given, home = os.environ.get("HF_HUB_CACHE"), os.environ.get("HF_HOME")
    return Path(given or (home and os.path.join(home, "hub")) or constants.HF_HUB_CACHE).absolute()


def hub_setting() -> str:
    """The variable that moves this cache: HF_HOME does so with all else of the Hub, where HF_HUB_CACHE is not set."""
    return "HF_HUB_CACHE" if os.environ.get("HF_HUB_CACHE") else "HF_HOME"


class RepositoryKind(StrEnum):
    """What a repository holds."""

    model = "model"
    dataset = "dataset"


@dataclass(frozen=True)
class Repository:
    """A repository of the Hub."""

    kind: RepositoryKind
    name: str  # OWNER/NAME

    @property
    def title(self) -> str:
        """What the user calls it: a backbone or a dataset by its name."""
        return f"{'backbone' if self.kind == RepositoryKind.model else self.kind} {self.name}"

    @property
    def folder_name(self) -> str:
        """What it is called in the cache."""
        return "--".join([f"{self.kind}s", *self.name.split("/")])

    @property
    def folder(self) -> Path:
        """Its folder in the cache."""
        return hub_cache() / self.folder_name

    @property
    def revision(self) -> str | None:
        """The commit that is here; None where nothing is."""
        reference = self.folder / "refs" / BRANCH
        return reference.read_text(encoding="utf-8").strip() if reference.is_file() else None

    @property
    def snapshot(self) -> Path | None:
        """The folder of the revision that is here, maybe without some of its files."""
        return None if self.revision is None else self.folder / "snapshots" / self.revision
