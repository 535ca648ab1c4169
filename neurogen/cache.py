"""The folder for what can be made again: converted models, digests of files."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """NEUROGEN_CACHE, by default ~/.cache/neurogen. It need not exist."""
    return Path(os.environ.get("NEUROGEN_CACHE") or Path("~/.cache/neurogen").expanduser())
