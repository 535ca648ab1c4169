"""Programs whose calls of the C library fail where a test says so.

in:  words of a command, the folder whose files are meant, a Fault
out: exit status, output, and every call that changed a file of the folder
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

SOURCE = Path(__file__).with_name("interposed.c")
QUIET_S = 10.0
REPOSITORY = Path(__file__).parents[2]


class Call(NamedTuple):
    """A call that changed a file, or would have."""

    number: int
    name: str  # create, truncate, open, write, fsync, close, rename, unlink, mkdir, rmdir, symlink
    path: Path
    other: Path  # the new name of what is renamed
    inode: int
    size: int  # before the call


@dataclass(frozen=True)
class Fault:
    """Which call fails, and how; see interposed.c."""

    at: int = 0  # 0: none
    kind: str = ""
    lasts: bool = False  # a disk that stays full
    lock: str = ""  # an error's name: what flock says
    late: Path | None = None  # of which the names that others gave show themselves late
    late_calls: int = 0  # how often each is missing
    late_error: str = "ENOENT"  # an error's name: what is said then

    def variables(self) -> dict[str, str]:
        """As the library reads them."""
        values = {"FAULT_LOCK": self.lock, "FAULT_LASTS": "1" if self.lasts else ""}
        if self.at:
            values |= {"FAULT_AT": str(self.at), "FAULT_KIND": self.kind}
        if self.late is not None:
            values |= {"FAULT_LATE": str(self.late), "FAULT_LATE_CALLS": str(self.late_calls)}
            values |= {"FAULT_LATE_ERROR": self.late_error}
        return {name: value for name, value in values.items() if value}


@dataclass(frozen=True)
class Ended:
    """A program after its end."""

    status: int  # negative after a signal
    stdout: str
    stderr: str
    num_calls: int


def library(folder: Path) -> Path | None:
    """interposed.c as a shared library in this folder; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform != "linux":
        return None
    path = folder / "interposed.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(path), str(SOURCE), "-ldl"], check=True)
    return path


class Server:
    """Begins programs under the library. One at a time."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process, self.folder = process, folder
        self.count, self.log, self.kept = folder / "count", folder / "log", folder / "kept"

    def begin(self, words: list[str], root: Path, fault: Fault, folder: Path, **environment: str) -> int:
        """Begin `python -m WORDS` in `folder`, with a fault for files below `root`. Returns its process id."""
        self.count.write_bytes(bytes(8))
        self.log.unlink(missing_ok=True)
        shutil.rmtree(self.kept, ignore_errors=True)
        self.kept.mkdir()
        places = {"FAULT_ROOT": root, "FAULT_COUNT": self.count, "FAULT_LOG": self.log, "FAULT_KEEP": self.kept}
        variables = {**os.environ, **{name: str(path) for name, path in places.items()}, **fault.variables()}
        outputs = [str(self.folder / name) for name in ("stdout", "stderr")]
        for path in outputs:
            Path(path).unlink(missing_ok=True)
        self._pipe("stdin").write(json.dumps([words, str(folder), variables | environment, outputs]) + "\n")
        self._pipe("stdin").flush()
        return int(self._pipe("stdout").readline())

    def end(self) -> Ended:
        """Wait for the end of the program that was begun last."""
        status = int(self._pipe("stdout").readline())
        printed = [(self.folder / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
        return Ended(status, *printed, num_calls=int.from_bytes(self.count.read_bytes(), "little"))

    def run(self, words: list[str], root: Path, fault: Fault, folder: Path, **environment: str) -> Ended:
        """Begin a program and wait for its end."""
        self.begin(words, root, fault, folder, **environment)
        return self.end()

    def wait_for(self, num_calls: int) -> None:
        """Until the program has made so many calls, or makes none for a while."""
        seen, since = -1, time.monotonic()
        while seen < num_calls and time.monotonic() - since < QUIET_S:
            now = int.from_bytes(self.count.read_bytes(), "little")
            seen, since = (now, time.monotonic()) if now != seen else (seen, since)
            time.sleep(0.01)

    def calls(self) -> Iterator[Call]:
        """What the last program did to files below its root."""
        for line in self.log.read_text(encoding="utf-8").splitlines():
            number, name, path, other, inode, size = line.split("\t")
            yield Call(int(number), name, Path(path), Path(other), int(inode), int(size))

    def _pipe(self, name: str) -> IO[str]:
        pipe: IO[str] | None = getattr(self.process, name)
        assert pipe is not None
        return pipe


@contextmanager
def serving(preloaded: Path) -> Iterator[Server]:
    """A server under the library, until the end of the context."""
    environment = os.environ | {"LD_PRELOAD": str(preloaded), "PYTHONPATH": str(REPOSITORY)}
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server"],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        server = Server(process, Path(folder))
        for line in server._pipe("stdout"):  # libraries print what they miss
            if line == "ready\n":
                break
        yield server
        server._pipe("stdin").close()
