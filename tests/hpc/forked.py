"""Programs as forks of a process that has imported the libraries, so that they begin at once.

in:  a module, its arguments and its environment, once per rank
out: what `python -m MODULE ARGUMENTS` would print, and its exit status
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path

LIBRARIES = ["deepspeed", "peft", "torchvision", "transformers.models.llama.modeling_llama", "torch.utils.tensorboard"]
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(LIBRARIES)


def run_ranks(
    module: str, arguments: Sequence[str], num_ranks: int, folder: Path, timeout_s: float = 300
) -> subprocess.CompletedProcess[str]:
    """`num_ranks` processes with torchrun's variables, or a single one without; the output of all, rank by rank.

    As under torchrun, a rank that fails ends the others.
    """
    meeting = {"WORLD_SIZE": str(num_ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    with tempfile.TemporaryDirectory() as logs:
        ranks = []
        for rank in range(num_ranks):
            variables = {**meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)} if num_ranks > 1 else {}
            log = Path(logs) / str(rank)
            ranks.append(FORKS.Process(target=_program, args=(module, list(arguments), folder, variables, log)))
            ranks[-1].start()
        running, status = {process.sentinel: process for process in ranks}, 0
        while running:
            ended = wait(list(running), timeout_s)
            status = status or max(abs(running[sentinel].exitcode or 0) for sentinel in ended) if ended else 1
            running = {sentinel: process for sentinel, process in running.items() if sentinel not in ended}
            for process in running.values() if status else ():
                process.terminate()
        output, errors = (
            "".join(Path(f"{logs}/{rank}.{name}").read_text() for rank in range(num_ranks)) for name in ("out", "err")
        )
    return subprocess.CompletedProcess([module, *arguments], status, output, errors)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _program(module: str, arguments: list[str], folder: Path, variables: Mapping[str, str], log: Path) -> None:
    """In the fork: the program as `python -m` runs it."""
    for name, stream in (("out", 1), ("err", 2)):
        os.dup2(os.open(f"{log}.{name}", os.O_WRONLY | os.O_CREAT), stream)
    os.environ.update(variables)
    os.chdir(folder)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
