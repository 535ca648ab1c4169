"""conf/zero as a dataclass."""

from __future__ import annotations

import pytest

import hpc.ranks.zero
from hpc.errors import ClusterError
from hpc.ranks.zero import require_installed, zero_from


def test_zero_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    good = {"stage": 2, "offload": False, "whole_below": 0, "rank_timeout_s": 300}
    assert zero_from(good).stage == 2
    for change, message in (
        ({"stage": 4}, "zero.stage=4 is unknown; allowed: 0, 1, 2, 3"),
        ({"offload": True}, "zero.offload=true needs zero.stage=3, which is 2"),
        ({"rank_timeout_s": 0}, "zero.rank_timeout_s=0 must be above 0"),
        ({"colour": "red"}, "zero: unknown colour; allowed: offload, "),
        ({"stage": "two"}, "zero.stage=two must be a whole number"),
        ({"whole_below": "x"}, "zero.whole_below=x must be a whole number"),
        ({"offload": 1}, "zero.offload=1 must be true or false"),
        ({"rank_timeout_s": None}, "zero.rank_timeout_s=null must be a number"),
    ):
        with pytest.raises(ClusterError, match=message):
            zero_from(good | change)
    monkeypatch.setattr(hpc.ranks.zero.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ClusterError, match="zero=stage2 needs DeepSpeed; pip install"):
        require_installed(zero_from(good))
