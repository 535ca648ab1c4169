"""Signals that are heard at once, also by a process that waits for other ranks.

in:  signals of the system
out: calls of a function, from a thread that does nothing else

Python runs a signal's handler in the main thread, between two instructions. While that thread waits inside a collective
there is no next instruction, and a rank whose partner hangs would hear nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from threading import Thread


def hear(handle: Callable[[int], None], *numbers: signal.Signals) -> None:
    """From now on, call `handle` with the number of every such signal. For the main thread, once per process."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)  # else Python refuses it
    Thread(target=_listen, args=(reader, handle, set(numbers)), daemon=True).start()
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, lambda *_: None)  # instead of the default, which ends the process


def _listen(reader: int, handle: Callable[[int], None], numbers: set[signal.Signals]) -> None:
    while True:
        for number in os.read(reader, 1):  # blocks until one arrives
            if number in numbers:
                handle(number)


def end_at_once(number: int) -> None:
    """Leave without saving anything, with the status that a shell gives for this signal."""
    os._exit(128 + number)
