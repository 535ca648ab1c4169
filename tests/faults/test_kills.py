"""A whole run that is killed, or has a call that fails, at random moments, again and again; the same command each time.

in:  as many faults as FAULT_TRIES says; a run that ends is compared, and begun anew
     so is one that meets them again and again at the same step: tables take longest, and would take nearly all faults
out: the same bits as those of a run that nothing disturbed
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.faults.conftest import MARKS, SEED, TRIES
from tests.faults.interposed import Fault, Server
from tests.faults.jobs import content_of, differences

pytestmark = MARKS
MOST_CALLS = 150  # from the beginning to the call that fails, or before the kill
LONGEST_S = 0.5  # from that call to the kill
MOST_IN_A_ROW = 3  # faults while the same steps are done; then the run is let alone


@pytest.fixture(scope="module")
def whole(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a run that nothing disturbed."""
    root = tmp_path_factory.mktemp("whole") / "runs"
    ended = server.run(["neurogen.run", *TINY, f"root={root}"], root, Fault(), root.parent)
    assert ended.status == 0, ended.stderr
    return root


def where_it_stands(root: Path) -> str:
    """The steps that are done."""
    return " ".join(sorted({path.parent.parent.name for path in root.glob("*/*/DONE")})) or "nothing"


def is_stuck(faults: list[str]) -> bool:
    """Whether the last faults all met a run of which the same steps were done."""
    return len(faults) >= MOST_IN_A_ROW and len(set(faults[-MOST_IN_A_ROW:])) == 1


def assert_ends_as(whole: Path, root: Path, server: Server, faults: list[str]) -> None:
    """Let the run alone."""
    ended = server.run(["neurogen.run", *TINY, f"root={root}"], root, Fault(), root.parent)
    assert ended.status == 0, ended.stderr
    assert differences(content_of(root), content_of(whole)) == [], faults


def test_killed_at_random_moments(whole: Path, server: Server, tmp_path: Path) -> None:
    rng, root, killed_at = random.Random(SEED), tmp_path / "runs", list[str]()
    words, begun = ["neurogen.run", *TINY, f"root={root}"], 0
    while len(killed_at) < TRIES:
        if is_stuck(killed_at[begun:]):
            assert_ends_as(whole, root, server, killed_at)
            shutil.rmtree(root)
            begun = len(killed_at)
        process = os.pidfd_open(server.begin(words, root, Fault(), tmp_path))
        server.wait_for(rng.randint(0, MOST_CALLS))
        time.sleep(rng.uniform(0, LONGEST_S))
        with suppress(ProcessLookupError):  # it has ended
            signal.pidfd_send_signal(process, signal.SIGKILL)
        os.close(process)
        ended = server.end()
        if ended.status == 0:
            assert differences(content_of(root), content_of(whole)) == [], killed_at
            shutil.rmtree(root)
            begun = len(killed_at)
            continue
        assert ended.status == -signal.SIGKILL
        killed_at.append(where_it_stands(root))
    print(f"FAULT_SEED={SEED}: killed after {dict(Counter(killed_at))}")
    assert_ends_as(whole, root, server, killed_at)


def test_calls_fail_at_random(whole: Path, server: Server, tmp_path: Path) -> None:
    """The disk is full, or broken, for one call or from it on."""
    rng, root, failed_at = random.Random(SEED), tmp_path / "runs", list[str]()
    words, begun = ["neurogen.run", *TINY, f"root={root}"], 0
    while len(failed_at) < TRIES:
        if is_stuck(failed_at[begun:]):
            assert_ends_as(whole, root, server, failed_at)
            shutil.rmtree(root)
            begun = len(failed_at)
        fault = Fault(rng.randint(1, MOST_CALLS), rng.choice(["ENOSPC", "EIO", "EDQUOT"]), lasts=rng.random() < 0.5)
        ended = server.run(words, root, fault, tmp_path)
        if ended.status == 0:
            assert differences(content_of(root), content_of(whole)) == [], failed_at
            shutil.rmtree(root)
            begun = len(failed_at)
            continue
        assert "Traceback" not in ended.stderr, ended.stderr
        assert ended.stderr.splitlines()[-1].startswith("error: "), ended.stderr
        assert str(root) in ended.stderr.splitlines()[-1], ended.stderr
        failed_at.append(where_it_stands(root))
    print(f"FAULT_SEED={SEED}: failed after {dict(Counter(failed_at))}")
    assert_ends_as(whole, root, server, failed_at)
