"""Who of the ranks does not move any more: a thread on each that says where its rank stands, and reads the others.

A rank that waits for others stands in a collective; one that hangs stands elsewhere, with all its threads; and one that
is dead says nothing. So the rank that is to blame has a name, and all end, long before a collective's own time-out.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

BEATS_PER_TIMEOUT = 20
LONGEST_BEAT_S = 5.0
LOST = 70  # exit status
COLLECTIVES = ("torch/distributed/", "deepspeed/comm/", "hpc/ranks/distributed.py")
OUTSIDE = ("/filelock/", "/huggingface_hub/", "/httpx", "/urllib3/")  # another process's work, or a download


class Watchdog:
    """A rank may stand at one place, or be silent, for `timeout_s`; `when_lost` is told before this process ends."""

    def __init__(self, store: Any, rank: int, size: int, timeout_s: float, when_lost: Callable[[str], None]) -> None:
        self.store, self.rank, self.size, self.timeout_s = store.clone(), rank, size, timeout_s
        self.beat_s = min(LONGEST_BEAT_S, timeout_s / BEATS_PER_TIMEOUT)
        self.watched, self.ticks, self.answered = threading.main_thread().ident, 0, time.monotonic()
        self.when_lost = when_lost

    @contextmanager
    def watching(self) -> Iterator[None]:
        over = threading.Event()
        threads = [threading.Thread(target=one, args=(over,), daemon=True) for one in (self._watch, self._guard)]
        self.answered = time.monotonic()
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join(timeout=2 * self.beat_s)

    def tick(self) -> None:
        """The rank has got somewhere, though it may stand in the same place whenever it is looked at."""
        self.ticks += 1

    def _guard(self, over: threading.Event) -> None:
        """Rank 0 has the store: where it is frozen, asking it never ends."""
        while not over.wait(self.beat_s):
            silent = time.monotonic() - self.answered
            if silent > self.timeout_s + 2 * self.beat_s and not over.is_set():
                self._end(f"rank 0 has not answered for {silent:.0f} s")

    def leave(self) -> None:
        """Rank 0 has the store, so it goes last."""
        self.store.set(f"watchdog/{self.rank}", json.dumps({"left": True}))
        deadline = time.monotonic() + self.timeout_s
        while self.rank == 0 and self._words() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _watch(self, over: threading.Event) -> None:
        here, since = "", time.monotonic()
        heard: dict[int, tuple[int, float]] = {}  # by rank: its last beat, and when it came
        beat = 0
        while not over.wait(self.beat_s):
            frames = sys._current_frames()
            frame = frames.get(self.watched or 0)
            stacks = f"{self.ticks} " + " ".join(
                place_of(frames[thread]) for thread in sorted(frames) if thread != threading.get_ident()
            )
            if stacks != here:
                here, since = stacks, time.monotonic()
            beat += 1
            host = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
            word = {"beat": beat, "idle_s": time.monotonic() - since, "where": place_in_words(frame)}
            try:
                self.store.set(f"watchdog/{self.rank}", json.dumps(word | {"host": host}))
                words = self._words()
                self.answered = time.monotonic()
            except RuntimeError as error:  # torch's, for a connection that is closed
                if not over.is_set():
                    self._end(f"rank 0 is gone ({str(error).splitlines()[0]})")
                return
            lost = self._lost(words, heard)
            if lost and not over.is_set():
                self._end(lost)

    def _words(self) -> dict[int, dict[str, Any]]:
        known = [rank for rank in range(self.size) if self.store.check([f"watchdog/{rank}"])]
        words = {rank: json.loads(self.store.get(f"watchdog/{rank}")) for rank in known}
        return {rank: word for rank, word in words.items() if "left" not in word}

    def _lost(self, words: dict[int, dict[str, Any]], heard: dict[int, tuple[int, float]]) -> str:
        """Who is to blame, if anybody; ranks that have left or not yet come are silent without blame."""
        now = time.monotonic()
        for rank, word in words.items():
            if heard.get(rank, (0, 0.0))[0] != word["beat"]:
                heard[rank] = word["beat"], now
        silent = {rank: now - heard[rank][1] for rank in words if now - heard[rank][1] > self.timeout_s}
        if silent:
            who = ", ".join(f"rank {rank} on {words[rank]['host']}" for rank in silent)
            return (
                f"{who} has not been heard of for {max(silent.values()):.0f} s; last seen {words[min(silent)]['where']}"
            )
        if any(word["where"].startswith("outside") for word in words.values()):
            return ""  # the others wait for what that rank waits for
        idle = {rank: word for rank, word in words.items() if word["idle_s"] > self.timeout_s}
        waiting = {rank for rank, word in words.items() if word["where"].startswith("waiting")}
        blamed = set(idle) - waiting or (set(idle) if len(idle) == self.size else set())
        return "; ".join(
            f"rank {rank} on {word['host']} has stood still for {word['idle_s']:.0f} s {word['where']}"
            for rank, word in sorted(idle.items())
            if rank in blamed
        )

    def gone(self) -> str:
        """After an error of this rank: which others are silent since then, if any."""
        try:
            before = self._words()
            time.sleep(2 * self.beat_s)
            after = self._words()
        except RuntimeError:
            return "rank 0 is gone"
        silent = [rank for rank in before if rank != self.rank and before[rank]["beat"] == after[rank]["beat"]]
        return ", ".join(f"rank {rank} on {before[rank]['host']} is gone" for rank in silent)

    def _end(self, message: str) -> None:
        print(f"error: {message}", file=sys.stderr, flush=True)
        frame = sys._current_frames().get(self.watched or 0)
        print(f"rank {self.rank} stands here:", "".join(traceback.format_stack(frame)), file=sys.stderr, flush=True)
        try:
            self.when_lost(message)
        finally:
            os._exit(LOST)  # the main thread cannot be reached: it waits inside a collective


def place_of(frame: FrameType | None) -> str:
    """Everything that changes when a thread moves."""
    places = []
    while frame is not None:
        places.append(f"{frame.f_code.co_filename}:{frame.f_lasti}")
        frame = frame.f_back
    return " ".join(places)


def place_in_words(frame: FrameType | None) -> str:
    """'waiting for others …', 'outside …' or 'in …', with the innermost line of a file of ours."""
    stack = [f"{one.filename}:{one.lineno}" for one in traceback.extract_stack(frame)] if frame else []
    kinds = {"outside": OUTSIDE, "waiting for others": COLLECTIVES}
    found = [kind for kind, parts in kinds.items() if any(part in line for line in stack[-12:] for part in parts)]
    ours = [line for line in stack if "/site-packages/" not in line]
    return f"{found[0] if found else 'in'} {ours[-1] if ours else 'no code of ours'}"
