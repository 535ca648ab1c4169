"""The files and markers of a step's folder.

A step writes into `root/<kind>/<label>-<key>/`. A file appears whole: it is written under a temporary name, flushed to
the disk and then renamed. DONE is written last, when all else is on the disk, so a folder without it is work in
progress that can go on. An operating-system lock on the folder's `.lock` file keeps two processes from working on one
step. The lock ends with its process, however that ended.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from neurogen.errors import Advised, Interrupted, UserError

if TYPE_CHECKING:
    from torch import Tensor

DONE, DIGESTS = "DONE", "sha256"
READ_AGAIN = (".json", ".safetensors")  # files of a step that others read
TEMPORARY = ".tmp"
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
ROOT_MARKER = ".neurogen"  # a file in every root, so that data in the same folder are read without the results


class Unwritable(Advised):
    """A file or folder that cannot be written. What does not lie in root has other advice (errors.advising)."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn failed writes into Unwritable, which names `path` and says what to do: disk full, folder not writable."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise Unwritable(
            f"cannot write {path} ({error})", "free some space or set root=FOLDER; the same command then continues"
        ) from error


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a temporary file beside `path`, then put it in place, so that nobody ever sees half a file.

    It outlasts a loss of power. Raises UserError where it cannot be written.
    """
    _require_possible(path)
    temporary = path.with_name(f".{path.stem}.{uuid4().hex[:12]}{TEMPORARY}{path.suffix}")  # nodes share process ids
    with writing(path):
        make_folder(path.parent)
        try:
            write(temporary)
            flush(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        flush(path.parent)


def _require_possible(path: Path) -> None:
    """Raises UserError for a name that no file can have."""
    try:
        is_possible = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        is_possible = False
    if not is_possible:
        raise UserError(f"{str(path)!a} has signs that no file's name can have (NUL, half a sign); give another name")


def make_folder(folder: Path) -> None:
    """Make a folder with those above it, so that they outlast a loss of power. Raises OSError."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in missing:
        flush(place.parent)


def flush(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise  # some network file systems flush names by themselves, and refuse to be asked
    finally:
        os.close(descriptor)


def remove_temporaries(folder: Path) -> None:
    """Remove what a killed process left half written. Only the process that holds the folder may call this."""
    for path in list(folder.rglob(f".*{TEMPORARY}*")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)  # it may have been in such a folder


def not_through_a_link(path: str, flags: int) -> int:
    """An `opener` for files that grow: whoever shares the folder could let another file grow. Raises OSError."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def write_bytes(path: Path, content: bytes) -> None:
    """A file of these bytes, whole or not at all. Raises UserError where it cannot be written.

    The writers of libraries do worse: that of safetensors does not hear of an error when the file is closed, which is
    when a network file system reports a full disk, and nobody but the owner may read what it writes.
    """
    write_file(path, lambda temporary: temporary.write_bytes(content))


def write_text(path: Path, text: str) -> None:
    """A text file in UTF-8. Raises UserError where it cannot be written."""
    write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """A JSON file, whole or not at all. Raises UserError where it cannot be written."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file, whole or not at all. Raises UserError where it cannot be written."""
    from safetensors.torch import save

    on_cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_bytes(path, save(on_cpu, metadata))


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises UserError where the file is missing or broken."""
    require_as_written(path)
    return _read_json(path)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # of lists in lists in lists
        raise UserError(f"{path} cannot be read ({error}); delete the folder {path.parent} to make it again") from error


def require_as_written(path: Path) -> None:
    """Raises UserError where a file of a finished step is no longer what the step wrote.

    A disk that decays, a copy that broke off, or another file under the same name would give another result. Steps of
    earlier versions noted no digests.
    """
    for folder in (path.parent, path.parent.parent):  # a generator has a folder in its own
        if is_done(folder):
            marker = _read_json(folder / DONE)
            files = marker.get(DIGESTS, {}) if isinstance(marker, dict) else {}
            name = path.relative_to(folder).as_posix()
            if name in files and not (path.is_file() and _digest(path) == files[name]):
                raise UserError(f"{path} is not what its step wrote; delete the folder {folder} to make it again")
            return


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def mark_root(root: Path) -> None:
    """Write the marker of a root. Raises UserError where that is not possible."""
    marker = root / ROOT_MARKER
    if marker.exists():
        return
    try:
        write_text(marker, "results of neurogen\n")
    except UserError:
        if not marker.exists():  # else another account was faster, whose file cannot be replaced where others write too
            raise


def is_done(folder: Path) -> bool:
    """Whether the step in `folder` has ended and left its results there."""
    return (folder / DONE).exists()


def mark_done(folder: Path) -> None:
    """Write the marker DONE, with the time in seconds since 1970, when all that the folder holds is on the disk.

    It also holds the digests of what other steps read.

    Raises UserError where that is not possible.
    """
    with writing(folder):
        for path in (*folder.rglob("*"), folder, folder.parent, folder.parent.parent):  # libraries flush nothing
            flush(path)
        files = [path for path in (*folder.glob("*"), *folder.glob("adapter/*")) if path.suffix in READ_AGAIN]
        digests = {path.relative_to(folder).as_posix(): _digest(path) for path in sorted(files)}
    write_json(folder / DONE, {"finished": time.time(), DIGESTS: digests})


@contextmanager
def exclusive(folder: Path, stop: Event) -> Iterator[None]:
    """Hold the folder for this process. Where another process holds it, say so and wait until it lets go.

    `neurogen status` shows that line while it is the last one of a job's log, so the end of the wait is said too.

    Raises UserError where the folder cannot be written, and Interrupted when the stop flag is set while waiting.
    """
    from filelock import FileLock, Timeout

    with writing(folder):
        make_folder(folder)
        lock = FileLock(folder / ".lock", fallback_to_soft=False)  # a soft one outlives a process that is killed
        waiting = False
        while not lock.is_locked:
            try:
                lock.acquire(timeout=0.5 if waiting else 0, poll_interval=0.5)  # on a file server every look costs
            except Timeout:
                if not waiting:
                    print(f"  waiting: another process works on {folder}", file=sys.stderr, flush=True)
                waiting = True
                if stop.is_set():
                    raise Interrupted from None
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                raise UserError(
                    f"the file system of {folder} has no locks ({error.strerror}), so two processes could work on one "
                    "step; mount it with flock, or set root=FOLDER on another"
                ) from error
    if waiting:
        print(f"  going on: {folder} is free", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        lock.release()
