"""A network file system on which names that another machine gave show themselves late: missing, or stale (ESTALE).

Whoever looks says so in one line, or ends as if nothing had been; nothing is lost.
"""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest

from tests.conftest import Composed
from tests.faults.conftest import MARKS, SEED, STEPS, Undisturbed, drawn
from tests.faults.interposed import Fault, Server
from tests.faults.jobs import content_of, differences
from tests.faults.test_calls import leftovers, said_in_one_line
from tests.faults.test_mutated_files import queue_in

pytestmark = MARKS
ERRORS = ["ENOENT", "ESTALE"]
MOST_LOOKS = 6


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("error", ERRORS)
def test_a_step_that_was_killed_goes_on_though_names_are_late(
    undisturbed: Undisturbed, server: Server, tmp_path: Path, kind: str, error: str
) -> None:
    """What it needs, what it left itself, or the queue: seen late on the node where it goes on."""
    before = content_of(undisturbed.folder / kind)
    words, root = undisturbed.jobs.words(kind), undisturbed.jobs.root
    for position in drawn(range(1, undisturbed.num_calls[kind] + 2), kind, "late", error):  # the last: after its end
        rng = Random(repr((SEED, kind, error, position)))
        undisturbed.restore(kind)
        server.run(words, root, Fault(position, "KILL"), tmp_path)
        late = rng.choice([root, root / "queue", *sorted(root.glob("*/*-*"))])
        fault = Fault(late=late, late_calls=rng.randint(1, MOST_LOOKS), late_error=error)
        where = f"killed at {position}, then {fault}"
        ended = server.run(words, root, fault, tmp_path)
        if ended.status != 0:
            assert str(root) in said_in_one_line(ended), where
        assert before.items() <= content_of(root).items(), where
        again = server.run(words, root, Fault(), tmp_path)
        assert again.status == 0, f"{where}: {again.stderr}"
        assert differences(content_of(root), undisturbed.content[kind]) == [], where
        assert leftovers(root) == [], where


def test_an_old_listing_costs_no_checkpoint(undisturbed: Undisturbed, server: Server, tmp_path: Path) -> None:
    """It names checkpoints that cannot be opened; the next one is right."""
    undisturbed.restore("tune")
    words, root = undisturbed.jobs.words("tune"), undisturbed.jobs.root
    folder = undisturbed.jobs.step("tune").folder
    server.run(words, root, Fault(2 * undisturbed.num_calls["tune"] // 3, "KILL"), tmp_path)
    *_, newest = sorted((folder / "checkpoints").glob("step-*.safetensors"))
    ended = server.run(words, root, Fault(late=newest, late_calls=2, late_error="ESTALE"), tmp_path)
    assert ended.status == 0, ended.stderr
    assert f"continuing from step {int(newest.stem.removeprefix('step-'))}" in ended.stdout
    assert content_of(root) == undisturbed.content["tune"]


@pytest.mark.parametrize("error", ERRORS)
def test_status_of_a_queue_whose_names_are_late(
    server: Server, experiment: Composed, tmp_path: Path, error: str
) -> None:
    """It shows what there is, or says in one line what it could not read, and changes no record."""
    root = tmp_path / "runs"
    queue_in(root, experiment)
    (sweep,) = (path.parent for path in root.glob("sweeps/*/manifest.json"))
    records = {path: path.read_bytes() for path in root.glob("queue/*/*")}
    words = ["neurogen.status", str(sweep)]
    expected = server.run(words, root, Fault(), tmp_path)
    assert expected.status == 0, expected.stderr
    for looks in drawn(range(1, 3 * MOST_LOOKS), "status", error):
        for late in (root, root / "queue", sweep):
            ended = server.run(words, root, Fault(late=late, late_calls=looks, late_error=error), tmp_path)
            assert ended.status == 0 or str(root) in said_in_one_line(ended), ended.stdout + ended.stderr
            assert {path: path.read_bytes() for path in records} == records
    again = server.run(words, root, Fault(), tmp_path)
    assert timeless(again.stdout) == timeless(expected.stdout)


def timeless(text: str) -> str:
    return re.sub(r"\d+ (s|min|h)\b", "", text)
