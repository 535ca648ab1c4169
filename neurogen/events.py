"""TensorBoard's event files.

in:  a folder
out: events.out.tfevents… in it, as torch's SummaryWriter writes them; UserError where they cannot be written
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from neurogen import store
from neurogen.errors import UserError

WRITERS = "tensorboard.summary.writer.event_file_writer"  # the module whose threads write


class Events:
    """The event file of one run in a folder."""

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        """Events from `purge_step` on that an earlier run left are hidden. Raises UserError."""
        self.folder = folder
        _hooks.take()  # first: the writer's thread begins with a write
        try:
            with store.writing(folder):
                self._writer = SummaryWriter(str(folder), purge_step=purge_step)
        except UserError:
            _hooks.leave(after_error=True)
            raise

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            with self.adding() as writer:
                writer.close()
        except UserError:
            _hooks.leave(after_error=True)
            raise
        _hooks.leave(after_error=False)

    @contextmanager
    def adding(self) -> Iterator[SummaryWriter]:
        """Inside, the writer takes events. Raises UserError where they, or those before them, cannot be written."""
        with store.writing(self.folder):
            yield self._writer


@dataclass(frozen=True)
class _Hook:
    """Prints no traceback of a thread that writes events: the next call of its writer raises what it has met.

    The hook that was there before never changes: that of another program may stand between two of these.
    """

    before: Callable[[threading.ExceptHookArgs], object]

    def __call__(self, end: threading.ExceptHookArgs) -> None:
        if type(end.thread).__module__ != WRITERS:
            self.before(end)


class _Hooks:
    """Files of several threads may be open at once; the hook before comes back when the last is closed."""

    def __init__(self) -> None:
        self.lock, self.num_open = threading.Lock(), 0

    def take(self) -> None:
        with self.lock:
            self.num_open += 1
            if not isinstance(threading.excepthook, _Hook):
                threading.excepthook = _Hook(threading.excepthook)

    def leave(self, after_error: bool) -> None:
        """After an error the hook stays: the thread may still be about to meet it too."""
        with self.lock:
            self.num_open -= 1
            if self.num_open == 0 and not after_error and isinstance(threading.excepthook, _Hook):
                threading.excepthook = threading.excepthook.before


_hooks = _Hooks()
