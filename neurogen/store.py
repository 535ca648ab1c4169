"""Every path and every marker of a run.

A step writes into `root/<kind>/<label>-<key>/`. Files appear whole (temporary file, then os.replace), and DONE is
written last: a folder without it is work in progress, to be continued. An operating-system lock on the folder's
`.lock` file keeps two processes from working on one step; it is gone when its process is, however that ended.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from neurogen.errors import Interrupted, UserError

if TYPE_CHECKING:
    from torch import Tensor

DONE = "DONE"
TEMPORARY = ".tmp"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises UserError, with the path and what to do, where the disk is full or the folder not writable."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"cannot write {path} ({error}); free some space or set root=FOLDER; the same command then continues"
        ) from error


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a temporary sibling of `path`, then put it in place; nobody ever sees half a file."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{TEMPORARY}{path.suffix}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """What a killed process left half written. Only for who holds the folder."""
    for path in folder.rglob(f".*{TEMPORARY}*"):
        path.unlink()


def write_json(path: Path, value: Any) -> None:
    write_file(path, lambda temporary: temporary.write_text(json.dumps(value, indent=1) + "\n"))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file, whole or not at all."""
    from safetensors.torch import save_file

    ready = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_file(path, lambda temporary: save_file(ready, temporary, metadata))


def read_json(path: Path) -> Any:
    """Raises UserError when the file is missing or broken."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete the folder {path.parent} to make it again") from error


def is_done(folder: Path) -> bool:
    return (folder / DONE).exists()


def mark_done(folder: Path) -> None:
    write_json(folder / DONE, {"finished": time.time()})


@contextmanager
def exclusive(folder: Path, stop: Event) -> Iterator[None]:
    """Hold the folder for this process. Where another one holds it, say so and wait until it lets go.

    Raises UserError where the folder cannot be written, Interrupted when the stop flag is set while waiting.
    """
    from filelock import FileLock, Timeout

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        waiting = False
        while not lock.is_locked:
            try:
                lock.acquire(timeout=0.5 if waiting else 0)
            except Timeout:
                if not waiting:
                    print(f"  waiting: another process works on {folder}", file=sys.stderr, flush=True)
                waiting = True
                if stop.is_set():
                    raise Interrupted from None
    try:
        yield
    finally:
        lock.release()


def environment() -> dict[str, Any]:
    """What a step ran on: versions, commit, host, GPUs."""
    import torch

    packages = ("neurogen", "torch", "torchvision", "transformers", "peft", "numpy")
    return {
        "python": platform.python_version(),
        "host": platform.node(),
        "cpu": _cpu(),
        "cpu_cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "commit": commit_here(),
        "versions": {name: _version(name) for name in packages},
    }


def _cpu() -> str:
    """Its name, where the system tells it."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit_here() -> str | None:
    """Of this code: a repository's, or what a sweep noted beside the copy that its jobs run."""
    here = Path(__file__).parents[1]
    if (here / "COMMIT").exists():
        return (here / "COMMIT").read_text().strip() or None
    if not (here / ".git").exists():  # installed: a repository further up would be somebody else's
        return None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:  # no git on this machine
        return None
    return described.stdout.strip() or None
