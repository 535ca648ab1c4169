"""What a server says of its files, before it becomes a part of paths on this machine.

in:  names, commits and digests from a listing of the Hub
out: nothing, or a UserError where they would lead out of the folder of their repository
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from neurogen.errors import UserError


def require_inside(repository: str, name: str) -> None:
    """Raises UserError for the name of a file that does not lie in the folder of its repository."""
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in name or "\0" in name:
        raise UserError(f"{repository} has {name!r} on the hub, which lies outside of its folder; use another")


def require_digits(repository: str, digest: Any) -> None:
    """Raises UserError for a commit or a digest that has not hexadecimal digits alone."""
    if not re.fullmatch(r"[0-9a-f]+", str(digest)):
        raise UserError(f"{repository} has {digest!r} on the hub for the digest of a file or commit; use another")
