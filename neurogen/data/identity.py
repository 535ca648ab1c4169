"""The identity of a dataset before it is loaded. It is a part of the hash of every step that is trained on the data.

in:  the config of a dataset
out: a short text that changes when the data does
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from neurogen.config import DatasetConfig
from neurogen.errors import UserError

# The publishers fixed the files of these datasets; downloads are checked against known digests.
PUBLISHED = ("digits", "mnist5k", "mnist", "svhn", "cifar10")


def identity(config: DatasetConfig) -> str:
    """The name of a published dataset, or a digest over names, sizes and times of the files in dataset.path.

    Raises UserError where dataset.path does not exist.
    """
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
        status = path.stat()
        digest.update(f"{path.relative_to(folder)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return f"{config.name}-{digest.hexdigest()[:16]}"


def _on_the_hub(config: DatasetConfig) -> bool:
    """Whether dataset.path is the OWNER/NAME of a dataset that hub_text loads."""
    return config.load == "hub_text" and re.fullmatch(r"[\w.-]+/[\w.-]+", config.path or "") is not None
