"""Ranks that begin together in forks of this process, and end as an interpreter of their own does.

in:  a line of JSON per group of ranks: of each its words, its folder, its environment, the files for what it prints
out: a line with the exit statuses of the ranks, once all have ended; negative after a signal

A fork of multiprocessing leaves by os._exit. These return from their main module instead: Python is finalised, and the
destructors of C++ run, which is where a thread that nobody joined aborts the process.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys

from tests.faults.server import import_all

TIMEOUT_S = 600  # after that SIGALRM ends a rank that hangs


def serve() -> list[str]:
    """Until the input ends. Returns the words of a program in its fork, and none in this process."""
    for line in sys.stdin:
        ranks = json.loads(line)
        processes = []
        for words, folder, environment, outputs in ranks:
            process = os.fork()
            if process == 0:
                become(folder, environment, outputs)
                return list(words)
            processes.append(process)
        statuses = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
        print(json.dumps(statuses), flush=True)
    return []


def become(folder: str, environment: dict[str, str], outputs: list[str]) -> None:
    """Take the folder, the environment and the outputs of a program; its input is empty."""
    os.setsid()
    signal.alarm(TIMEOUT_S)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[0] = folder


if __name__ == "__main__":
    import_all()
    print("ready", flush=True)
    program = serve()
    if program:
        sys.argv[:] = program
        runpy.run_module(program[0], run_name="__main__", alter_sys=True)
