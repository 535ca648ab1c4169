"""Progress for people: a bar with rate and remaining time on a terminal and in a notebook, elsewhere a line every 15
seconds."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from threading import Lock
from typing import Any, TypeVar

SECONDS_BETWEEN_LINES = 15.0
SECONDS_OF_PATIENCE = 2.0
BYTES = "B"

Item = TypeVar("Item")


class Progress:
    """`with Progress("tune", 100, unit="steps") as progress: progress.advance(1, "loss 0.3")`.

    `first` units of `total` were done by an earlier run. The unit "B", bytes, is shown in kB, MB, and so on.
    Threads may share a Progress.
    """

    def __init__(self, title: str, total: int, unit: str, first: int = 0) -> None:
        self.title, self.total, self.unit, self.done, self.first = title, total, unit, first, first
        self.started = self.printed = time.monotonic()
        self.lock, self.note = Lock(), ""
        self.bar: Any = None
        if sys.stderr.isatty() or in_notebook():
            scaled = {"unit": unit, "unit_scale": True} if unit == BYTES else {"unit": f" {unit}"}
            self.bar = _bar(total=total, initial=first, desc=f"  {title}", dynamic_ncols=True, **scaled)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()
        else:
            self._line()

    def advance(self, count: int = 1, note: str = "") -> None:
        """`count` more units are done; `note` replaces what is said beside them."""
        with self.lock:
            self.done, self.note = self.done + count, note or self.note
            if self.bar is not None:
                self.bar.set_postfix_str(self.note, refresh=False)
                self.bar.update(count)
            elif self.done < self.total and time.monotonic() - self.printed > SECONDS_BETWEEN_LINES:
                self._line()

    def _line(self) -> None:
        self.printed = time.monotonic()
        elapsed = self.printed - self.started
        counts = f"{self.done}/{self.total} {self.unit}"
        if self.unit == BYTES:
            counts = f"{in_bytes(self.done)} of {in_bytes(self.total)}"
        parts = [f"{counts} in {elapsed:.0f} s"]
        if self.first < self.done < self.total:
            parts.append(f"about {elapsed * (self.total - self.done) / (self.done - self.first):.0f} s to go")
        if self.note:
            parts.append(self.note)
        print(f"  {self.title}: {', '.join(parts)}", file=sys.stderr, flush=True)


def when_slow(items: Sequence[Item], title: str, unit: str) -> Iterator[Item]:
    """The items, with progress for work on them that takes longer than SECONDS_OF_PATIENCE."""
    started = time.monotonic()
    progress: Progress | None = None
    with ExitStack() as stack:
        for index, item in enumerate(items):
            if progress is None and time.monotonic() - started > SECONDS_OF_PATIENCE:
                progress = stack.enter_context(Progress(title, len(items), unit, first=index))
            yield item
            if progress is not None:
                progress.advance()


def in_bytes(count: float) -> str:
    """A number of bytes in the unit that leaves one to three digits before the point, as in 11.6 MB."""
    unit, *larger = ("B", "kB", "MB", "GB", "TB", "PB")
    while count >= 1000 and larger:
        count, (unit, *larger) = count / 1000, larger
    return f"{count:.0f} {unit}" if unit == BYTES else f"{count:.1f} {unit}"


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def _bar(**options: Any) -> Any:
    """tqdm's bar: a widget in a notebook that can show widgets, text otherwise."""
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # that widgets cannot be shown
        from tqdm.auto import tqdm

        return tqdm(**options)
