"""One section of the GPU benchmark, in a process of its own: `python -m benchmarks.section FOLDER NAME [CASE]`.

NAME is a module of this package with `measure(folder, case)`, which works in FOLDER and reports what it measures.
"""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

from benchmarks.setting import report


def main() -> None:
    """Measures the section that the command line names: FOLDER NAME [CASE]."""
    started = time.monotonic()
    folder, name, *case = sys.argv[1:]
    importlib.import_module(f"benchmarks.{name}").measure(Path(folder), *case or [""])
    report(measured_after_s=time.monotonic() - started)  # what comes after it is the end of the process


if __name__ == "__main__":
    main()
