"""conf/zero as a dataclass."""

from __future__ import annotations

import pytest

import hpc.ranks.zero
from hpc.errors import ClusterError
from hpc.ranks.zero import Zero, among, require_installed, zero_from


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


@pytest.mark.parametrize(
    ("stage", "offload", "num_ranks", "effective"),
    [(0, False, 1, 0), (1, False, 1, 0), (2, False, 1, 0), (3, False, 1, 0), (3, True, 1, 3), (2, False, 2, 2)],
)
def test_one_process_goes_without_zero_and_says_so(
    stage: int, offload: bool, num_ranks: int, effective: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert among(Zero(stage, offload, whole_below=0, rank_timeout_s=300), num_ranks).stage == effective
    said = f"zero=stage{stage} shares among processes, and this is one by itself: it runs as zero=none\n"
    assert capsys.readouterr().out == (said if effective != stage else "")
