"""What a runtime refuses."""

from __future__ import annotations

import pytest

from neurogen.errors import UserError
from neurogen.training.runtime import runtime_here


@pytest.mark.parametrize(
    ("device", "num_threads", "message"),
    [
        ("gpu", 1, "device=gpu is unknown; allowed: auto, cpu, cuda"),
        ("cuda:1", 1, "device=cuda:1 is unknown"),
        ("cpu", -1, "num_threads=-1 must be at least 0"),
    ],
)
def test_a_device_or_number_that_is_none_is_refused(device: str, num_threads: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        runtime_here(device, num_threads)
