"""A file of the web: its addresses, its place here, its digest.

in:  addresses to be tried in order; the digest that the file must have
out: the file under its name, whole; until then FILE.part beside it, with which the next attempt goes on

The requests are those of huggingface_hub, with its proxies, certificates and tokens. But it forgets what a killed
process has downloaded, so its own files come this way too.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

from neurogen import store
from neurogen.downloads.network import cause_of
from neurogen.downloads.source import Advance
from neurogen.errors import UserError

TIMEOUT_S = 20.0
MOST_FAILURES = 5  # tries in a row that bring nothing
SECONDS_BETWEEN_TRIES = 1.0
PARTIAL_CONTENT = 206
MOST_SHOWN = 30  # characters of what came instead of a file


class Algorithm(StrEnum):
    """How a digest is computed."""

    MD5 = "md5"
    SHA256 = "sha256"
    GIT = "git"  # of a blob


@dataclass(frozen=True)
class Digest:
    """What a file must have as its digest, in hexadecimal digits."""

    algorithm: Algorithm
    value: str

    def is_of(self, path: Path) -> bool:
        """Whether the file has it."""
        with path.open("rb") as file:
            if self.algorithm == Algorithm.GIT:
                start = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
                return hashlib.file_digest(file, lambda: start).hexdigest() == self.value
            return hashlib.file_digest(file, self.algorithm.value).hexdigest() == self.value


class NotBrought(UserError):
    """A file that none of its addresses gave; `answer` is that of the last."""

    def __init__(self, message: str, answer: Exception) -> None:
        super().__init__(message)
        self.answer = answer


@dataclass(frozen=True)
class RemoteFile:
    """A file of the web."""

    path: Path  # where it goes
    addresses: tuple[str, ...]
    digest: Digest
    num_bytes: int | None = None  # None: as the server says
    is_on_hub: bool = False  # whether requests carry the user's token

    @property
    def part(self) -> Path:
        """What has come of it so far."""
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def num_here(self) -> int:
        """How many bytes of it have come so far."""
        return self.part.stat().st_size if self.part.exists() else 0

    def headers(self) -> dict[str, str]:
        """What a request says besides the address."""
        from huggingface_hub.utils import build_hf_headers

        return build_hf_headers() if self.is_on_hub else {}

    def size(self) -> int | None:
        """Its bytes; None where the server does not say. Raises NotBrought where no address answers."""
        return self.num_bytes if self.num_bytes is not None else self._try_all(self._size_at)

    def bring(self, advance: Advance) -> None:
        """Download what is missing of it. The caller holds the lock of its folder.

        Raises NotBrought where no address gives it, and OSError where it cannot be written.
        """
        self._try_all(lambda address: self._transfer(address, advance))
        self.part.replace(self.path)

    def _try_all(self, request: Any) -> Any:
        """The first answer. Raises NotBrought with the causes of all."""
        failures = []
        for address in self.addresses:
            try:
                return request(address)
            except network_errors() as error:
                if isinstance(error, OSError) and error.errno is not None:  # of a file, not of the network
                    raise
                failures.append((error, f"{address}: {cause_of(error, address)}"))
        raise NotBrought("; ".join(line for _, line in failures), failures[-1][0]) from failures[-1][0]

    def _size_at(self, address: str) -> int | None:
        from huggingface_hub.utils import get_session, hf_raise_for_status

        response = get_session().head(address, headers=self.headers(), timeout=TIMEOUT_S)
        hf_raise_for_status(response)
        length = response.headers.get("Content-Length")
        return int(length) if length else None

    def _transfer(self, address: str, advance: Advance) -> None:
        """Let the part grow to the whole file. Raises ValueError where that is another file."""
        size = self.num_bytes if self.num_bytes is not None else self._size_at(address)
        if size is None or self.num_here > size:
            self.part.unlink(missing_ok=True)
        self._open_part().close()
        failures = 0
        while self.num_here != size:
            begun = self.num_here
            try:
                self._stream(address, begun, size, advance)
                break
            except lost_connections():
                failures = failures + 1 if self.num_here == begun else 0
                if failures == MOST_FAILURES:
                    raise
                time.sleep(SECONDS_BETWEEN_TRIES)
        if not self.digest.is_of(self.part):
            came = _description(self.part)
            self.part.unlink()
            raise ValueError(f"sent {came}, which is not {self.path.name} as it was published (digest)")

    def _open_part(self) -> BinaryIO:
        """The part, to be appended to; it is made where it is missing. Raises OSError, also where it is a link."""
        return open(self.part, "ab", opener=store.not_through_a_link)

    def _stream(self, address: str, begun: int, size: int | None, advance: Advance) -> None:
        """Append the bytes from `begun` on to the part; all of them where the server knows no ranges.

        Raises ValueError where more than `size` come, which might fill the disk.
        """
        from huggingface_hub.utils import get_session, hf_raise_for_status

        headers = {**self.headers(), "Accept-Encoding": "identity"} | ({"Range": f"bytes={begun}-"} if begun else {})
        with (
            get_session().stream("GET", address, headers=headers, timeout=TIMEOUT_S) as response,
            self._open_part() as file,
        ):
            hf_raise_for_status(response)
            if begun and response.status_code != PARTIAL_CONTENT:
                file.truncate(0)
                advance(-begun)
            for block in response.iter_bytes():
                if size is not None and file.tell() + len(block) > size:
                    raise ValueError(f"sent more than the {size:,} bytes of {self.path.name}")
                file.write(block)
                advance(len(block))


def network_errors() -> tuple[type[Exception], ...]:
    """What a request may end in: no network, a refusal, an answer that is none, a proxy that is no address."""
    from httpx2 import HTTPError, InvalidURL

    return (HTTPError, InvalidURL, ConnectionError, OSError, ValueError)


def lost_connections() -> tuple[type[Exception], ...]:
    """What may be over a second later."""
    from httpx2 import NetworkError, RemoteProtocolError, TimeoutException

    return (NetworkError, RemoteProtocolError, TimeoutException)


def _description(path: Path) -> str:
    """How long a file is, and how it begins where that can be read."""
    with path.open("rb") as file:
        start = file.read(MOST_SHOWN)
    shown = f" ({start.decode('ascii')!r} …)" if start.isascii() and start.decode("ascii").isprintable() else ""
    return f"{path.stat().st_size:,} bytes{shown}"


@contextmanager
def alone_with(path: Path, name: str) -> Iterator[None]:
    """Hold the lock file `path` while something is brought. Where another process brings it, say so and wait.

    Raises OSError where the lock cannot be written, or the file system has no locks.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()  # FileLock would wait for ever where that is impossible
    lock = FileLock(path, fallback_to_soft=False)  # a soft one outlives a process that is killed
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"  waiting: another process brings {name} here", file=sys.stderr, flush=True)
        lock.acquire(poll_interval=0.5)  # on a file server every look costs something
    try:
        yield
    finally:
        lock.release()
