"""Which rank is to blame."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from hpc.ranks.watchdog import LOST, Report, Watchdog
from tests.faults.interposed import REPOSITORY
from tests.hpc.forked import run_ranks


def test_the_rank_that_hangs_is_told_from_those_that_wait() -> None:
    """Rank 1 has stood in our code for too long, and 0 and 2 in a collective since then."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True)
    watchdog = Watchdog(store, 0, 3, timeout_s=10.0, when_lost=lambda message: None)
    waits = Report(5, 11.0, "waiting for others zero.py:7", "n1")
    hangs = Report(5, 12.0, "in tune.py:30", "n2")
    works = Report(5, 0.5, "in zoo.py:9", "n2")
    assert watchdog.lost({0: waits, 1: hangs, 2: waits}, {}) == "rank 1 on n2 has stood still for 12 s in tune.py:30"
    assert watchdog.lost({0: waits, 1: works, 2: waits}, {}) == ""  # they wait for one that works
    assert watchdog.lost({0: waits, 1: waits, 2: waits}, {}).count("waiting for others") == 3
    downloads = Report(5, 999.0, "outside pretrained.py:9", "n1")
    assert watchdog.lost({0: downloads, 1: waits, 2: waits}, {}) == ""
    silent = watchdog.lost({0: works, 1: works}, {1: (5, time.monotonic() - 11)})
    assert silent.startswith("rank 1 on n2 has not been heard of for 11 s")
    assert watchdog.lost({0: works}, {1: (5, time.monotonic() - 11)}) == ""  # it has left


def test_a_rank_with_an_open_collective_waits_wherever_it_stands(tmp_path: Path) -> None:
    process = run_ranks("tests.hpc.asynchronous", [], 2, tmp_path)
    assert process.returncode == LOST
    assert re.search(
        r"^error: rank 1 on \S+ has stood still for \d s in .*asynchronous.py", process.stderr, re.MULTILINE
    )
    assert "error: rank 0 on" not in process.stderr  # that it is gone is true, once it has found out first


def test_rank_0_keeps_the_store_until_all_have_left() -> None:
    """Also a rank that was done before its first beat. Rank 0 once left it behind, and it failed with its work done."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True)
    watchdogs = [Watchdog(store, rank, 2, timeout_s=60.0, when_lost=lambda message: None) for rank in range(2)]
    leaving = threading.Thread(target=watchdogs[0].leave, daemon=True)
    leaving.start()
    leaving.join(timeout=0.5)
    assert leaving.is_alive()
    watchdogs[1].leave()
    leaving.join(timeout=30.0)
    assert not leaving.is_alive()


KEEP_A_STORE = """
import torch
store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True)
print(store.port, flush=True)
input()
"""


def test_a_rank_that_is_done_does_not_fail_because_rank_0_is_gone() -> None:
    rank_0 = [sys.executable, "-c", KEEP_A_STORE]
    with subprocess.Popen(rank_0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout
        port = int(process.stdout.readline())
        store = torch.distributed.TCPStore("127.0.0.1", port, is_master=False)
        watchdog = Watchdog(store, 1, 2, timeout_s=60.0, when_lost=lambda message: None)
        process.kill()
    with pytest.raises(RuntimeError):
        watchdog.store.check(["key"])
    watchdog.leave()


LEAVE = """
import sys, time, torch
from hpc.ranks.watchdog import Watchdog

class Last:
    def __del__(self, sleep=time.sleep):
        sleep(6)  # while Python ends

last = Last()
store = torch.distributed.TCPStore("127.0.0.1", int(sys.argv[1]), is_master=False)
watchdog = Watchdog(store, 1, 2, timeout_s=20.0, when_lost=lambda message: None)
with watchdog.watching():
    print("watching", flush=True)
    input()
"""
TWO_BEATS_S = 2.0


def test_no_thread_is_left_in_the_store_when_a_rank_ends() -> None:
    """Rank 0 stands still while rank 1 ends, and answers later. A thread that comes back from C++ while Python ends is
    ended there, and that aborts the process: "terminate called without an active exception"."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    with ExitStack() as processes:
        rank_0 = processes.enter_context(subprocess.Popen([sys.executable, "-c", KEEP_A_STORE], **pipes))
        processes.callback(rank_0.kill)  # also one that stands still
        assert rank_0.stdout
        command = [sys.executable, "-c", LEAVE, rank_0.stdout.readline().strip()]
        rank_1 = processes.enter_context(subprocess.Popen(command, cwd=REPOSITORY, **pipes))
        processes.callback(rank_1.kill)
        assert rank_1.stdin
        assert rank_1.stdout
        assert rank_1.stdout.readline() == "watching\n"
        rank_0.send_signal(signal.SIGSTOP)
        time.sleep(TWO_BEATS_S)  # so that it is asked
        rank_1.stdin.write("\n")
        rank_1.stdin.flush()
        time.sleep(2 * TWO_BEATS_S)
        rank_0.send_signal(signal.SIGCONT)
        _, errors = rank_1.communicate(timeout=300)
    assert (rank_1.returncode, errors) == (0, "")


WATCH = """
import sys, time, torch
from hpc.ranks.watchdog import Watchdog

rank, port = int(sys.argv[1]), int(sys.argv[2])
store = torch.distributed.TCPStore("127.0.0.1", port, is_master=rank == 0)
watchdog = Watchdog(store, rank, 2, timeout_s=4.0, when_lost=lambda message: None)
if rank == 0:
    print(store.port, flush=True)
store.set(f"here/{rank}", "")
store.wait(["here/0", "here/1"])  # importing torch takes long on busy cores
with watchdog.watching():
    for _ in range(140):
        time.sleep(0.1)
        watchdog.tick()
watchdog.leave()
"""


def test_ranks_that_were_suspended_together_go_on() -> None:
    """As `scontrol suspend` does it, for twice as long as a rank may stand still."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8", "cwd": REPOSITORY}
    with ExitStack() as processes:
        ranks, port = [], "0"
        for rank in ("0", "1"):
            process = processes.enter_context(subprocess.Popen([sys.executable, "-c", WATCH, rank, port], **pipes))
            processes.callback(process.kill)
            assert process.stdout
            ranks.append(process)
            port = process.stdout.readline().strip() if rank == "0" else port
        store = torch.distributed.TCPStore("127.0.0.1", int(port), is_master=False)
        store.wait(["watchdog/0", "watchdog/1"])
        for signal_number, pause_s in ((signal.SIGSTOP, 8.0), (signal.SIGCONT, 0.0)):
            for process in ranks:
                process.send_signal(signal_number)
            time.sleep(pause_s)
        errors = [process.communicate(timeout=120)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], errors


class Clock:
    """In the place of the module time, and of the event that ends a watch: each beat takes as long as it is told."""

    def __init__(self, beats_s: list[float]) -> None:
        self.now_s, self.beats_s = 0.0, beats_s

    def monotonic(self) -> float:
        return self.now_s

    def wait(self, _: float) -> bool:
        self.now_s += self.beats_s.pop(0) if self.beats_s else 0.0
        return not self.beats_s

    def is_set(self) -> bool:
        return False


@pytest.mark.parametrize(("beats_s", "is_lost"), [([5.0, 5.0, 40.0] * 6, False), ([5.0] * 25, True)])
def test_short_suspensions_do_not_add_up(beats_s: list[float], is_lost: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank stands for 90 s inside one call while its job takes turns with another one, and the limit is 100 s."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True)
    clock, messages = Clock(beats_s), list[str]()
    monkeypatch.setattr("hpc.ranks.watchdog.time", clock)
    watchdog = Watchdog(store, 0, 1, timeout_s=100.0, when_lost=lambda message: None)
    monkeypatch.setattr(watchdog, "_end", messages.append)
    watchdog._watch(clock)  # type: ignore[arg-type]
    assert bool(messages) == is_lost, messages


class Accumulator:
    """Something that must not live longer than the function that made it."""


def test_looking_at_a_rank_keeps_nothing_of_it_alive() -> None:
    """Else DeepSpeed's gradient accumulators live on into the next forward pass, in the wrong shape."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True)
    watchdog = Watchdog(store, 0, 1, timeout_s=20.0, when_lost=lambda message: None)

    def seen() -> weakref.ref[Accumulator]:
        accumulator = Accumulator()
        while not store.check(["watchdog/0"]):
            time.sleep(0.01)
        return weakref.ref(accumulator)

    with watchdog.watching():
        assert seen()() is None
