"""TensorBoard's event files.

in:  a folder
out: events.out.tfevents… in it, as torch's SummaryWriter writes them; UserError where they cannot be written
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from neurogen import store

WRITERS = "tensorboard.summary.writer.event_file_writer"  # the module whose threads write


class Events:
    """The event file of one run in a folder."""

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        """Events from `purge_step` on that an earlier run left are hidden. Raises UserError."""
        self.folder, self._hook = folder, threading.excepthook
        threading.excepthook = self._end_of_thread  # first: the writer's thread begins with a write
        with store.writing(folder):
            self._writer = SummaryWriter(str(folder), purge_step=purge_step)

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *error: object) -> None:
        with self.adding() as writer:
            writer.close()
        threading.excepthook = self._hook  # after an error the thread may still be about to meet it too

    @contextmanager
    def adding(self) -> Iterator[SummaryWriter]:
        """Inside, the writer takes events. Raises UserError where they, or those before them, cannot be written."""
        with store.writing(self.folder):
            yield self._writer

    def _end_of_thread(self, end: threading.ExceptHookArgs) -> None:
        """Print no traceback of the thread that writes: the next call of the writer raises what it has met."""
        if type(end.thread).__module__ != WRITERS:
            self._hook(end)
