"""What of a sweep is submitted."""

from __future__ import annotations

import pytest

from hpc.jobs.graph import identity
from hpc.jobs.submission import missing_steps
from tests.hpc.conftest import Composed, graph


@pytest.mark.parametrize(
    ("present", "tried", "expected"),
    [
        ([], [], ["reference", "classical", "inject", "tune", "evaluate"]),
        (["reference", "inject"], [], ["classical", "tune", "evaluate"]),
        (["reference"], ["reference", "inject"], ["classical"]),  # what needs inject is not tried without it
        (["reference", "inject"], ["reference", "inject"], ["classical", "tune", "evaluate"]),
        ([], ["classical"], ["reference", "inject", "tune"]),
    ],
)
def test_what_was_tried_in_vain_is_left_with_all_that_needs_it(
    experiment: Composed, present: list[str], tried: list[str], expected: list[str]
) -> None:
    *steps, _ = graph(experiment, "seed=0")
    names = {step.kind: identity(step) for step in steps}
    missing = missing_steps(steps, [names[kind] for kind in present], [names[kind] for kind in tried])
    assert sorted(step.kind for step in missing) == sorted(expected)
