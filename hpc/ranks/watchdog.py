"""Which rank no longer moves: a thread on each rank reports where the rank stands, and reads the others' reports.

in:  a torch store that all ranks share, and a time-out
out: a message that names the rank, and the end of this process

A rank that waits for others stands in a collective, or has one open: NCCL's go on by themselves, and who waits for the
result stands anywhere. A rank that hangs stands elsewhere, with all its threads; a dead rank reports nothing. So the
rank to blame can be named, and all ranks end long before a collective's own time-out.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from hpc.ranks.placement import node_here

BEATS_PER_TIMEOUT = 20
LONGEST_BEAT_S = 5.0
LOST = 70  # exit status
COLLECTIVES = ("torch/distributed/", "deepspeed/comm/", "hpc/ranks/distributed.py")
OUTSIDE = ("/filelock/", "/huggingface_hub/", "/httpx", "/urllib3/")  # another process's work, or a download
LEFT = "left"  # the report of a rank that is done
THREAD = re.compile(r"^(?:Current t|T)hread 0x([0-9a-f]+).*$", re.MULTILINE)  # faulthandler's headings, and their lines
PLACE = re.compile(r'^  File "(.*)", line (\d+) in ', re.MULTILINE)

Stack = list[str]  # FILE:LINE, the innermost first


@dataclass(frozen=True)
class Report:
    """What a rank says of itself with every beat."""

    beat: int  # how many so far
    idle_s: float  # since it last moved
    where: str  # as `describe` puts it
    host: str

    @property
    def is_outside(self) -> bool:
        """It waits for a download, or for another process's work."""
        return self.where.startswith("outside")

    @property
    def is_waiting(self) -> bool:
        """It waits for other ranks."""
        return self.where.startswith("waiting")


Heard = dict[int, tuple[int, float]]  # by rank: its last beat, and when it arrived


class Watchdog:
    """Ends this process once a rank has stood still or been silent for `timeout_s`; calls `when_lost` before that."""

    def __init__(
        self,
        store: Any,
        rank: int,
        size: int,
        timeout_s: float,
        when_lost: Callable[[str], None],
        has_open_collective: Callable[[], bool] = lambda: False,
    ) -> None:
        self.store, self.rank, self.size, self.timeout_s = store.clone(), rank, size, timeout_s
        self.beat_s = min(LONGEST_BEAT_S, timeout_s / BEATS_PER_TIMEOUT)
        self.host = node_here()
        self.watched, self.ticks, self.answered = threading.main_thread().ident, 0, time.monotonic()
        self.when_lost, self.has_open_collective = when_lost, has_open_collective

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, the ranks are watched."""
        over, unguarded = threading.Event(), threading.Event()
        watch = threading.Thread(target=self._watch, args=(over,), daemon=True)
        guard = threading.Thread(target=self._guard, args=(unguarded,), daemon=True)
        self.answered = time.monotonic()
        watch.start()
        guard.start()
        patience_s: float | None = 2 * self.beat_s  # an error of this rank is not to wait for another rank
        try:
            yield
            patience_s = None
        finally:
            over.set()
            # It may wait for an answer of rank 0, and be guarded as long. If it came back from C++ while Python ends,
            # Python would end the thread inside a destructor, and C++ the process: "terminate called without an …".
            watch.join(patience_s)
            unguarded.set()
            guard.join()

    def tick(self) -> None:
        """Tell that the rank has moved, even if it stands at the same place whenever it is looked at."""
        self.ticks += 1

    def leave(self) -> None:
        """Report that this rank is done. Rank 0 keeps the store, so it waits for all others."""
        try:
            self.store.set(f"watchdog/{self.rank}", json.dumps(LEFT))
        except RuntimeError:  # rank 0 has waited in vain, or failed and says so itself; this rank's work is done
            return
        deadline = time.monotonic() + self.timeout_s
        while self.rank == 0 and not self._all_left() and time.monotonic() < deadline:
            time.sleep(0.05)

    def gone(self) -> str:
        """After an error on this rank: a message that names the ranks which are silent since then, or ""."""
        try:
            before = self._reports()
            time.sleep(2 * self.beat_s)
            after = self._reports()
        except RuntimeError:
            return "rank 0 is gone"
        silent = [rank for rank in before if rank != self.rank and before[rank].beat == after[rank].beat]
        return ", ".join(f"rank {rank} on {before[rank].host} is gone" for rank in silent)

    def lost(self, reports: dict[int, Report], heard: Heard) -> str:
        """A message that names the rank to blame, or "". Updates `heard`.

        `reports` are those of ranks that have begun and not left; no other rank is ever to blame.
        """
        now = time.monotonic()
        for rank, report in reports.items():
            if heard.get(rank, (0, 0.0))[0] != report.beat:
                heard[rank] = report.beat, now
        silence = {rank: now - heard[rank][1] for rank in reports if now - heard[rank][1] > self.timeout_s}
        if silence:
            names = ", ".join(f"rank {rank} on {reports[rank].host}" for rank in silence)
            where = reports[min(silence)].where
            return f"{names} has not been heard of for {max(silence.values()):.0f} s; last seen {where}"
        if any(report.is_outside for report in reports.values()):
            return ""  # the others wait for what that rank waits for
        idle = {rank for rank, report in reports.items() if report.idle_s > self.timeout_s}
        waiting = {rank for rank, report in reports.items() if report.is_waiting}
        to_blame = idle - waiting or (idle if len(idle) == self.size else set())
        return "; ".join(
            f"rank {rank} on {report.host} has stood still for {report.idle_s:.0f} s {report.where}"
            for rank, report in sorted(reports.items())
            if rank in to_blame
        )

    def _watch(self, over: threading.Event) -> None:
        """The thread that reports where this rank stands, and looks for a rank to blame."""
        last, since = "", time.monotonic()
        heard: Heard = {}
        for beat, stopped_s in enumerate(self._beats(over), 1):
            since += stopped_s
            heard = {rank: (number, moment + stopped_s) for rank, (number, moment) in heard.items()}
            position, where = self._look()
            if position != last:
                last, since = position, time.monotonic()
            report = Report(beat, time.monotonic() - since, where, self.host)
            try:
                self.store.set(f"watchdog/{self.rank}", json.dumps(asdict(report)))
                reports = self._reports()
                self.answered = time.monotonic()
            except RuntimeError as error:  # torch raises it when the connection is closed
                if not over.is_set():
                    self._end(f"rank 0 is gone ({str(error).splitlines()[0]})")
                return
            message = self.lost(reports, heard)
            if message and not over.is_set():
                self._end(message)

    def _beats(self, over: threading.Event) -> Iterator[float]:
        """For every beat until it is over: how long this process did not run, 0 for less than a beat.

        SLURM may suspend a job, and all of its ranks with it: then nobody is to blame. Where jobs take turns on the
        same nodes (gang scheduling) it does so every minute, and no single pause is long.
        """
        before = time.monotonic()
        while not over.wait(self.beat_s):
            now = time.monotonic()
            late_s = now - before - self.beat_s
            yield late_s if late_s > self.beat_s else 0.0
            before = now

    def _look(self) -> tuple[str, str]:
        """Where all other threads stand, which changes when one moves; and in words, where the watched one stands."""
        stacks = stacks_of_threads()
        where = describe(stacks.get(self.watched or 0, []), self.has_open_collective())
        others = [place for thread, stack in stacks.items() if thread != threading.get_ident() for place in stack]
        return " ".join([str(self.ticks), *others]), where

    def _guard(self, over: threading.Event) -> None:
        """The thread that notices if rank 0, which keeps the store, is frozen: then `_watch` waits for an answer."""
        for stopped_s in self._beats(over):
            self.answered = min(time.monotonic(), self.answered + stopped_s)
            silence = time.monotonic() - self.answered
            if silence > self.timeout_s + 2 * self.beat_s and not over.is_set():
                self._end(f"rank 0 has not answered for {silence:.0f} s")

    def _reports(self) -> dict[int, Report]:
        """By rank, of those that have begun and not left."""
        known = [rank for rank in range(self.size) if self.store.check([f"watchdog/{rank}"])]
        values = {rank: json.loads(self.store.get(f"watchdog/{rank}")) for rank in known}
        return {rank: Report(**value) for rank, value in values.items() if value != LEFT}

    def _all_left(self) -> bool:
        """A rank that is done before its first beat has reported nothing until it leaves."""
        return self.store.check([f"watchdog/{rank}" for rank in range(self.size)]) and not self._reports()

    def _end(self, message: str) -> None:
        print(f"error: {message}", file=sys.stderr, flush=True)
        print(f"rank {self.rank} stands here:", file=sys.stderr, flush=True)
        faulthandler.dump_traceback(sys.stderr)
        try:
            self.when_lost(message)
        finally:
            os._exit(LOST)  # the main thread waits inside a collective and cannot be reached


def stacks_of_threads() -> dict[int, Stack]:
    """Where the threads of this process stand, without Python's objects for frames.

    Such an object keeps local variables alive: during a backward pass gradient accumulators of sharded parameters,
    which the next forward pass would take up in the wrong shape. And if a look met DeepSpeed while it set up stage 3,
    the backbone sometimes stayed in memory after its stage.
    """
    is_linux = hasattr(os, "memfd_create")  # in memory: a full disk must not look like threads that stand still
    with open(os.memfd_create("stacks"), "w+b", 0) if is_linux else tempfile.TemporaryFile("w+b", 0) as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        _, *parts = THREAD.split(file.read().decode())
    return {
        int(thread, 16): [f"{path}:{line}" for path, line in PLACE.findall(stack)]
        for thread, stack in zip(parts[::2], parts[1::2], strict=True)
    }


def describe(stack: Stack, has_open_collective: bool) -> str:
    """'waiting for others …', 'outside …' or 'in …', with the innermost line that is not in a library."""
    kinds = {"outside": OUTSIDE, "waiting for others": COLLECTIVES}
    matching = [kind for kind, parts in kinds.items() if any(part in line for line in stack[:12] for part in parts)]
    ours = [line for line in stack if "/site-packages/" not in line]
    elsewhere = "waiting for others" if has_open_collective else "in"
    return f"{matching[0] if matching else elsewhere} {ours[0] if ours else 'no code of ours'}"
