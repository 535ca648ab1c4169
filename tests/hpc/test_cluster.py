"""A site's config."""

from __future__ import annotations

import pytest

from hpc.errors import ClusterError
from tests.hpc.conftest import site


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+cluster.colour=red", "unknown colour; allowed: account"),
        ("+cluster.steps.default.colour=red", "cluster.steps.default: unknown colour"),
        ("cluster.steps.default.mem_gb=0", "cluster.steps.default.mem_gb=0 must be a number, at least 0.01"),
        ("~cluster.steps.default", "cluster.steps has no default"),
        ("cluster.max_array=0", "cluster.max_array=0 must be at least 1"),
    ],
)
def test_a_site_that_makes_no_sense_is_refused(override: str, message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        site(override)
