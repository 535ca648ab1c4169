"""The folder for what can be made again: converted models, digests of files."""

from __future__ import annotations

import os
from pathlib import Path

from neurogen.errors import UserError


def cache_folder() -> Path:
    """NEUROGEN_CACHE, by default ~/.cache/neurogen. It need not exist.

    Raises UserError where neither that nor a home is known.
    """
    given = os.environ.get("NEUROGEN_CACHE")
    if given:
        return Path(given)
    try:
        return Path.home() / ".cache" / "neurogen"
    except RuntimeError as error:  # an account without an entry in the system's list, as in a container
        raise UserError(f"this account has no home for a cache ({error}); set NEUROGEN_CACHE=FOLDER") from error
