"""What a site offers and what every kind of step asks for: conf/cluster/*.yaml as dataclasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from hpc.errors import ClusterError


@dataclass(frozen=True)
class Resources:
    """What one job, or one task of an array, asks for."""

    nodes: int
    tasks_per_node: int
    gpus_per_node: int
    cpus_per_task: int
    mem_gb: float
    timeout_min: int

    @property
    def num_ranks(self) -> int:
        return self.nodes * self.tasks_per_node


@dataclass(frozen=True)
class Cluster:
    name: str
    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    exclude: str | None  # nodes that are not to be used
    setup: list[str]  # lines of shell before every step: modules, environments
    environment: dict[str, str]  # exported before every step
    additional: dict[str, Any]  # further options of sbatch, by name
    max_array: int  # tasks in one array; sites allow MaxArraySize - 1 at most
    array_parallelism: int  # tasks of one array that run at a time
    kill_on_invalid_dep: bool  # let SLURM cancel what hangs on a failed job; some sites forbid it
    signal_delay_s: int  # how long before its time limit a step is told to save
    max_requeues: int  # how often a step that ran out of time is put back into the queue
    steps: dict[str, Resources]  # by kind; `default` for all others

    def resources(self, kind: str) -> Resources:
        return self.steps.get(kind, self.steps["default"])

    def without(self, nodes: Sequence[str]) -> Cluster:
        """The same site, these nodes left out too."""
        return replace(self, exclude=",".join([*filter(None, [self.exclude]), *nodes]) or None)


def cluster_from(values: dict[str, Any]) -> Cluster:
    """Plain values → Cluster. Raises ClusterError on unknown, missing and impossible ones."""
    _refuse_keys("cluster", values, Cluster)
    if "default" not in values["steps"]:
        raise ClusterError("cluster.steps has no default; say there what a step asks for that is not named")
    steps = {}
    for kind, own in values["steps"].items():
        asked = {**values["steps"]["default"], **own}
        _refuse_keys(f"cluster.steps.{kind}", asked, Resources)
        for name, value in asked.items():
            least = {"gpus_per_node": 0, "mem_gb": 0.01}.get(name, 1)
            if not isinstance(value, (int, float)) or value < least:
                raise ClusterError(f"cluster.steps.{kind}.{name}={value} must be a number, at least {least}")
        steps[kind] = Resources(**asked)
    for name in ("max_array", "array_parallelism"):
        if values[name] < 1:
            raise ClusterError(f"cluster.{name}={values[name]} must be at least 1")
    return Cluster(**{**values, "steps": steps})


def _refuse_keys(where: str, values: dict[str, Any], kind: type) -> None:
    allowed = {item.name for item in fields(kind)}
    unknown, missing = set(values) - allowed, allowed - set(values)
    if unknown or missing:
        what = f"unknown {', '.join(sorted(unknown))}" if unknown else f"missing {', '.join(sorted(missing))}"
        raise ClusterError(f"{where}: {what}; allowed: {', '.join(sorted(allowed))}")
