"""The power is lost at any call of a step: only what was flushed is there afterwards. The same command then ends in the
same bits, and whatever was done before is there."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.faults.conftest import MARKS, SEED, STEPS, Undisturbed, drawn
from tests.faults.interposed import Fault, Server
from tests.faults.jobs import content_of
from tests.faults.power import Disk, Loss

pytestmark = MARKS


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("loss", Loss)
def test_a_step_goes_on_after_the_power_was_lost(
    undisturbed: Undisturbed, server: Server, tmp_path: Path, kind: str, loss: Loss
) -> None:
    before, root = undisturbed.folder / kind, undisturbed.jobs.root
    words = undisturbed.jobs.words(kind)
    for position in drawn(range(1, undisturbed.num_calls[kind] + 2), kind, loss.name):  # the last: after its end
        undisturbed.restore(kind)
        ended = server.run(words, root, Fault(position, "KILL"), tmp_path)
        calls = list(server.calls())
        is_done = ended.status == 0
        disk = Disk.of(root, before)
        disk.follow([call for call in calls if is_done or call.number != position])
        disk.lose_power(loss, server.kept, Random(repr((SEED, kind, position))))
        where = f"power lost before {calls[-1]}"
        assert content_of(before).items() <= content_of(root).items(), where
        if is_done:
            assert content_of(root) == undisturbed.content[kind], where
        again = server.run(words, root, Fault(), tmp_path)
        assert again.status == 0, f"{where}: {again.stderr}"
        assert content_of(root) == undisturbed.content[kind], where
