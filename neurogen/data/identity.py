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
    """The name of a published dataset, the digest of stored arrays, or else a digest over the files in dataset.path.

    The last is over their names, sizes and times. Raises UserError where dataset.path does not exist.
    """
    if config.load == "arrays" and config.path is not None:
        return metadata_of_arrays(Path(config.path))["digest"]
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


def metadata_of_arrays(path: Path) -> dict[str, str]:
    """What neurogen/data/arrays.py noted in a file: `digest` of the content, and `class_names` as JSON.

    Raises UserError where the file is missing or is no file of stored arrays.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise UserError(f"dataset.path={path} cannot be read ({error}); store the arrays again") from error
    if not {"digest", "class_names"} <= set(metadata):
        raise UserError(f"dataset.path={path} is no file of stored arrays; give root/data/DIGEST.safetensors")
    return metadata


def _on_the_hub(config: DatasetConfig) -> bool:
    """Whether dataset.path is the OWNER/NAME of a dataset that hub_text loads."""
    return config.load == "hub_text" and re.fullmatch(r"[\w.-]+/[\w.-]+", config.path or "") is not None
