"""The ranks of a job as forked programs, so that they begin at once.

in:  a module, its arguments and the number of ranks
out: what `python -m MODULE ARGUMENTS` prints on every rank, and its exit status
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path

from tests.programs import TIMEOUT_S, Forked


def run_ranks(
    module: str, arguments: Sequence[str], num_ranks: int, folder: Path, timeout_s: float = TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    """`num_ranks` processes with torchrun's variables, or a single one without; the output of all, rank by rank.

    As under torchrun, a rank that fails ends the others.
    """
    meeting = {"WORLD_SIZE": str(num_ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = []
    for rank in range(num_ranks):
        variables = {**meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)} if num_ranks > 1 else {}
        ranks.append(Forked([module, *arguments], folder, os.environ | variables))
    running, status = {rank.process.sentinel: rank for rank in ranks}, 0
    while running:
        ended = wait(list(running), timeout_s)
        status = status or max(abs(running[sentinel].wait()) for sentinel in ended) if ended else 1
        running = {sentinel: rank for sentinel, rank in running.items() if sentinel not in ended}
        for rank in running.values() if status else ():
            rank.terminate()
    output, errors = ("".join(texts) for texts in zip(*(rank.output() for rank in ranks), strict=True))
    return subprocess.CompletedProcess([module, *arguments], status, output, errors)


def free_port() -> int:
    """A TCP port that nobody listens on now, and that the system gives to nobody who asks for any."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
