"""The processes of a local sweep: what stops the sweep stops them as well, so that they save."""

from __future__ import annotations

import signal
import subprocess
from typing import IO

from hpc.jobs.job import STOPPED


class Processes:
    """Inside, SIGINT and SIGTERM are passed on to all that run, and are a KeyboardInterrupt here: a terminal's Ctrl-C
    reaches them too, whoever else sends a signal sends it to this process alone."""

    def __init__(self) -> None:
        self.running, self.is_stopped = set[subprocess.Popen[bytes]](), False

    def __enter__(self) -> Processes:
        self.before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def run(self, command: list[str], log: IO[bytes]) -> int:
        """The exit status; may be called by several threads. After a signal nothing begins."""
        if self.is_stopped:
            return STOPPED
        with subprocess.Popen(command, stdout=log, stderr=log) as process:
            self.running.add(process)
            if self.is_stopped:  # while it began
                process.terminate()
            status = process.wait()
            self.running.remove(process)
        return status

    def _stop(self, number: int, frame: object) -> None:
        self.is_stopped = True
        for process in list(self.running):
            process.terminate()
        raise KeyboardInterrupt
