"""What a dataset is, before it is loaded: part of the hash of everything that is trained on it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from neurogen.config import DatasetConfig
from neurogen.errors import UserError

# Their files are fixed by their publishers, and checked against known digests where they are downloaded.
PUBLISHED = ("digits", "mnist5k", "mnist", "svhn", "cifar10")


def identity(config: DatasetConfig) -> str:
    """The name of a published dataset, or a digest over names, sizes and times of the files in dataset.path."""
    if config.path is None or config.name in PUBLISHED:
        return config.name
    folder = Path(config.path)
    if not folder.exists():
        if _on_the_hub(config):
            return config.path
        raise UserError(f"dataset.path={config.path} does not exist; give the folder (or file) with your data")
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else [folder]
    digest = hashlib.sha256()
    for path in files:
        about = path.stat()
        digest.update(f"{path.relative_to(folder)} {about.st_size} {about.st_mtime_ns}\n".encode())
    return f"{config.name}-{digest.hexdigest()[:16]}"


def _on_the_hub(config: DatasetConfig) -> bool:
    """A loader of the hub's datasets takes OWNER/NAME where there is no such folder."""
    return config.load == "hub_text" and re.fullmatch(r"[\w.-]+/[\w.-]+", config.path or "") is not None
