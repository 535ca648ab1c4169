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
        ("cluster.steps.default.mem_gb=0", "cluster.steps.default.mem_gb=0 must be at least 0.01"),
        ("cluster.gpu_option=gpus", "cluster.gpu_option=gpus must be gpus_per_node or gres"),
        ("cluster.gpu_type=4", "cluster.gpu_type=4 must be a text or null"),
        ("cluster.srun=quiet", r"cluster.srun=quiet must be a list, \[A,B\]"),
        ("~cluster.steps.default", "cluster.steps has no default"),
        ("cluster.max_array=0", "cluster.max_array=0 must be at least 1"),
        ("cluster.max_array=x", "cluster.max_array=x must be a whole number"),
        ("cluster.signal_delay_s=-1", "cluster.signal_delay_s=-1 must be at least 0"),
        ("cluster.partition=[a,b]", r"cluster.partition=\[a,b\] must be a text or null"),
        ("cluster.setup=module", r"cluster.setup=module must be a list, \[A,B\]"),
        ("cluster.environment=x", r"cluster.environment=x must be keys with values, \{KEY: VALUE\}"),
        ("cluster.kill_on_invalid_dep=1", "cluster.kill_on_invalid_dep=1 must be true or false"),
        ("cluster.steps.default.nodes=1.5", "cluster.steps.default.nodes=1.5 must be a whole number"),
        ("+cluster.steps.tune.partition=4", "cluster.steps.tune.partition=4 must be a text or null"),
        ('+cluster.steps.tune.qos="a\tb"', "cluster.steps.tune.qos=.* has a line break or a control character"),
        ("cluster.steps.default=4", r"cluster.steps.default=4 must be keys with values, \{nodes: 1\}"),
    ],
)
def test_a_site_that_makes_no_sense_is_refused(override: str, message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        site(override)


def test_a_kind_of_step_may_go_elsewhere() -> None:
    cluster = site(
        "cluster=a100", "cluster.partition=gpu", "cluster.account=us", "+cluster.steps.evaluate.partition=cpu"
    )
    asked = {kind: cluster.resources(kind) for kind in ("tune", "evaluate", "sweeps")}
    assert {kind: where.partition for kind, where in asked.items()} == {
        "tune": "gpu",
        "evaluate": "cpu",
        "sweeps": "gpu",
    }
    assert {where.account for where in asked.values()} == {"us"}
