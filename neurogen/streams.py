"""stdout and stderr that no terminal, pipe, disk or locale can end a command with.

in:  the streams that this process was started with: a terminal, a pipe, a file, or nothing
out: sys.stdout and sys.stderr, to which writing never fails

A run takes hours, and its results are in files. So it goes on when `| head` has read enough, when the terminal is
closed, when the disk of a log is full. A sign that the locale lacks is shown as others.
"""

from __future__ import annotations

import codecs
import errno
import io
import locale
import os
import sys
import unicodedata
from typing import Any

STAND_INS = {  # of signs in our tables and messages that Unicode gives no plain form
    "±": "+-", "×": "x", "·": "-", "−": "-", "–": "-", "—": "-", "→": "->", "≤": "<=", "≥": ">=", "’": "'", "‖": "||",
    "∩": "&", "∪": "|", "∈": "in", "σ": "sigma", "Σ": "sum", "θ": "theta", "φ": "phi", "α": "alpha",
}  # fmt: skip
GONE = {errno.EPIPE, errno.EIO}  # nobody reads any more: a pipe, a terminal
READABLE = "readable"  # the name of our error handler


def make_lasting() -> None:
    """Replace sys.stdout and sys.stderr. For the beginning of a command; called again, it changes nothing.

    Where the locale is not UTF-8, the process begins anew in Python's UTF-8 mode.

    COLUMNS and LINES are removed from the environment where they are no size of a window: rich and tqdm believe them.
    """
    _restart_in_utf8_mode()
    codecs.register_error(READABLE, readable)
    for name in ("COLUMNS", "LINES"):
        if not os.environ.get(name, "1").isdecimal() or int(os.environ.get(name, "1")) == 0:
            del os.environ[name]
    sys.stdout, sys.stderr = (_lasting(name) for name in ("stdout", "stderr"))


def _restart_in_utf8_mode() -> None:
    """Names of files and words of the command line are UTF-8 nearly everywhere, whatever a login node's LANG says.

    Else a class would have another name there, and another result. Python decides at its start how it reads them. What
    is shown stays in the encoding of the locale.
    """
    if sys.getfilesystemencoding() == "utf-8" or "PYTHONUTF8" in os.environ:
        return
    os.environ["PYTHONUTF8"] = "1"
    os.environ.setdefault("PYTHONIOENCODING", locale.getpreferredencoding())
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def readable(error: UnicodeError) -> tuple[str | bytes, int]:
    """An error handler of codecs: what stands for the first sign that cannot be encoded, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    sign = error.object[error.start]
    if "\udc80" <= sign <= "\udcff":  # a byte of a file's name that is no text
        return bytes([ord(sign) - 0xDC00]), error.start + 1
    plain = STAND_INS.get(sign) or unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    return plain or "?", error.start + 1


class Lasting(io.FileIO):
    """A file descriptor that takes everything. What cannot be written is lost, and said once on stderr."""

    def __init__(self, descriptor: int, title: str) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.title, self.is_said = title, False

    def write(self, data: Any, /) -> int:
        """The number of bytes written or lost."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno in GONE:
                _connect_to_nothing(self.fileno())  # so that libraries and other programs can write there too
            elif not self.is_said and self.title != "stderr":
                self.is_said = True
                print(f"warning: {self.title} cannot be written ({error.strerror}); going on", file=sys.stderr)
            return len(data)


def _lasting(name: str) -> Any:
    stream = getattr(sys, name)
    if stream is None:  # it was closed before this process began
        return open(os.devnull, "w", encoding="utf-8", errors=READABLE)
    if stream is not getattr(sys, f"__{name}__"):
        return stream  # of a test or a notebook, or replaced already
    raw = Lasting(stream.fileno(), name)
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=READABLE,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _connect_to_nothing(descriptor: int) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)
