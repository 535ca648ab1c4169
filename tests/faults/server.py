"""Programs begun one after the other in forks of this process, which the library of interposed.c accompanies.

in:  a line of JSON per program: its words, its folder, its environment, the files for what it prints
out: a line with its process id when it begins, and one with its exit status when it has ended

What takes long to import is imported before the fork, so a program begins in a fraction of a second.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import sys
from pathlib import Path

from tests.programs import LIBRARIES, become

ENTRIES = {"neurogen.run", "neurogen.sweep", "neurogen.status", "neurogen.generate", "neurogen.aggregate"}  # run anew


def import_all() -> None:
    """The libraries, and what of neurogen and hpc no program runs as its own module."""
    for name in LIBRARIES:
        importlib.import_module(name)
    root = Path(__file__).parents[2]
    for package in ("neurogen", "hpc"):
        for path in sorted((root / package).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            if name not in ENTRIES and not name.endswith("__main__"):
                importlib.import_module(name)
    for name in ENTRIES:
        sys.modules.pop(name, None)


def serve() -> None:
    """Until the input ends."""
    forks = multiprocessing.get_context("fork")
    for line in sys.stdin:
        words, folder, environment, outputs = json.loads(line)
        arguments = (words, Path(folder), environment, [Path(path) for path in outputs])
        process = forks.Process(target=become, args=arguments)
        process.start()
        print(process.pid, flush=True)
        process.join()
        print(process.exitcode, flush=True)


if __name__ == "__main__":
    import_all()
    print("ready", flush=True)
    serve()
