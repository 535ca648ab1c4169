"""The end of a job's log, however large the log is: a job that runs for days, or prints what it should not, may leave
gigabytes, in a single line too.

in:  a file that a job may be writing
out: its last lines
"""

from __future__ import annotations

import os
from pathlib import Path

MOST_BYTES = 20_000


def last_lines(log: Path, most_bytes: int = MOST_BYTES) -> list[str]:
    """The whole lines among the last bytes; of a longer line its end. None of a file that is missing.

    What a progress bar writes over counts as a line of its own.
    """
    if not log.is_file():
        return []
    with log.open("rb") as file:
        first = max(0, file.seek(0, os.SEEK_END) - most_bytes)
        file.seek(first)
        lines = file.read(most_bytes).decode(errors="replace").splitlines()
    return lines[1:] if first and len(lines) > 1 else lines
