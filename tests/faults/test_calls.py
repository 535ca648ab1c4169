"""Every call of a step that changes a file fails once: a full disk, a broken one, a short write, and a kill there.

The step then says what happened in one line, nothing that was done before is lost, and the same command again ends in
the same bits as a run that nothing disturbed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.conftest import MARKS, STEPS, Undisturbed, drawn
from tests.faults.interposed import Ended, Fault, Server
from tests.faults.jobs import content_of, differences

pytestmark = MARKS


def said_in_one_line(ended: Ended) -> str:
    """What a failed job says; fails where that is a traceback."""
    assert "Traceback" not in ended.stderr, ended.stderr
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, ended.stderr
    return errors[0]


def leftovers(root: Path) -> list[Path]:
    """Temporary files of writers."""
    return [path for path in root.glob("*/*/**/*") if ".tmp" in path.name and "queue" not in path.parts]


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("fault", ["ENOSPC", "EIO", "SHORT", "KILL"])
def test_a_step_whose_calls_fail_ends_as_if_nothing_had_been(
    undisturbed: Undisturbed, server: Server, tmp_path: Path, kind: str, fault: str
) -> None:
    before = content_of(undisturbed.folder / kind)
    words, root = undisturbed.jobs.words(kind), undisturbed.jobs.root
    for position in drawn(range(1, undisturbed.num_calls[kind] + 1), kind, fault):
        undisturbed.restore(kind)
        failed = server.run(words, root, Fault(position, fault, lasts=fault == "ENOSPC"), tmp_path)
        call = next((call for call in server.calls() if call.number == position), None)
        where = f"{fault} at call {position}, {call}"
        if failed.status == 0:
            is_tolerated = call is None or call.name in ("close", "unlink") or "queue" in call.path.parts
            assert fault == "SHORT" or is_tolerated, where
        elif fault == "KILL":
            assert failed.status == -9, where
        else:
            assert str(root) in said_in_one_line(failed), where
        assert before.items() <= content_of(root).items(), where
        again = server.run(words, root, Fault(), tmp_path)
        assert again.status == 0, f"{where}: {again.stderr}"
        assert differences(content_of(root), undisturbed.content[kind]) == [], where
        assert leftovers(root) == [], where
