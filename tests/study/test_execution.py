"""Which steps a run does."""

from __future__ import annotations

import pytest

from neurogen.errors import UserError
from neurogen.study.execution import chosen, in_order
from neurogen.study.graph import steps_of
from tests.conftest import Composed


def test_a_part_of_all_steps_is_refused(experiment: Composed) -> None:
    """They need each other, and whoever divides them means the networks."""
    last = steps_of([experiment()])
    with pytest.raises(UserError, match=r"num_parts=4 divides the steps that only= names; set only=\[reference\]"):
        chosen(last, None, 1, 4)
    assert chosen(last, None, 0, 1) == in_order(last)
    networks = [step for step in in_order(last) if step.kind in ("reference", "classical")]
    parts = [chosen(last, ["reference", "classical"], part, 2) for part in (0, 1)]
    assert {step.key for part in parts for step in part} == {step.key for step in networks}
