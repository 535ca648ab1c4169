"""A site's config: conf/cluster/*.yaml as dataclasses.

in:  plain values, as OmegaConf resolves them
out: Cluster, which says what the site offers and what every kind of step asks for
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from hpc.errors import ClusterError
from hpc.types import require_fields

LEAST = {"max_array": 1, "array_parallelism": 1, "signal_delay_s": 0, "max_requeues": 0}
SHELL_VARIABLE, SBATCH_OPTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*"), re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # a line of #SBATCH that is broken would go on as a command
WHERE = ("partition", "account", "qos", "constraint")  # of a kind of step, or of all of the site's
SMALLEST = {"gpus_per_node": 0, "mem_gb": 0.01}  # of the resources; all others are at least 1


class GpuOption(StrEnum):
    """How sbatch is asked for GPUs. Some sites take only the older one."""

    GPUS_PER_NODE = "gpus_per_node"  # --gpus-per-node=a100:2
    GRES = "gres"  # --gres=gpu:a100:2


@dataclass(frozen=True)
class Resources:
    """What one job asks for, or one task of an array."""

    nodes: int
    tasks_per_node: int
    gpus_per_node: int
    cpus_per_task: int
    mem_gb: float | None  # of a node; None: --mem is left out, as some sites demand
    timeout_min: int
    partition: str | None = None  # null, also of the next three: the site's
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None

    @property
    def num_ranks(self) -> int:
        """Processes that work on the step together."""
        return self.nodes * self.tasks_per_node


@dataclass(frozen=True)
class Cluster:
    """One of conf/cluster."""

    name: str
    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    exclude: str | None  # nodes to avoid
    setup: list[str]  # lines of shell before every step: modules, environments
    environment: dict[str, str]  # exported before every step
    additional: dict[str, Any]  # further options of sbatch, by name
    gpu_option: GpuOption
    gpu_type: str | None  # such as a100; None: any
    srun: list[str]  # further options of srun
    container: str | None  # words of a shell, as they are, before the nodes' Python, such as apptainer exec --nv IMAGE
    python: str | None  # the nodes' Python; None: the one that submits
    max_array: int  # tasks in one array; never more than SLURM's MaxArraySize
    array_parallelism: int  # tasks of one array that run at a time
    kill_on_invalid_dep: bool  # let SLURM cancel the jobs that depend on a failed one; some sites forbid it
    signal_delay_s: int  # how long before its time limit a step is asked to save; at most half of that time
    max_requeues: int  # how often a step that ran out of time is put back into the queue
    steps: dict[str, Resources]  # by kind; `default` for all others

    def resources(self, kind: str) -> Resources:
        """What a step of this kind asks for, and where."""
        default = self.steps["default"]
        resources = self.steps.get(kind, default)
        where = {name: getattr(resources, name) or getattr(default, name) or getattr(self, name) for name in WHERE}
        return replace(resources, **where)

    def asking(self, kind: str, resources: Resources) -> Cluster:
        """The same site, where steps of this kind ask for these resources."""
        return replace(self, steps={**self.steps, kind: resources})

    def without(self, nodes: Sequence[str]) -> Cluster:
        """The same site with these nodes excluded as well."""
        return replace(self, exclude=",".join([*filter(None, [self.exclude]), *nodes]) or None)


def cluster_from(values: Mapping[str, Any]) -> Cluster:
    """Plain values → Cluster. Raises ClusterError on keys that are unknown or missing, and on impossible values."""
    require_fields("cluster", values, Cluster)
    if "default" not in values["steps"]:
        raise ClusterError("cluster.steps has no default; add what a step asks for whose kind is not listed")
    default = values["steps"]["default"]
    for kind, resources in values["steps"].items():
        if not isinstance(resources, Mapping):
            raise ClusterError(f"cluster.steps.{kind}={resources} must be keys with values, {{nodes: 1}}")
    nowhere = dict.fromkeys(WHERE)
    steps = {
        kind: _resources_from(kind, {**default, **nowhere, **resources}) for kind, resources in values["steps"].items()
    }
    for name, least in LEAST.items():
        if values[name] < least:
            raise ClusterError(f"cluster.{name}={values[name]} must be at least {least}")
    cluster = Cluster(**{**values, "gpu_option": GpuOption(values["gpu_option"]), "steps": steps})
    _require_words(cluster)
    return cluster


def _require_words(cluster: Cluster) -> None:
    """Raises ClusterError for what cannot be a word of a job's script. The lines of setup are the user's own code."""
    for key in cluster.environment:
        if not SHELL_VARIABLE.fullmatch(str(key)):
            raise ClusterError(
                f"cluster.environment has {key!r}, which is no name of a variable; use letters, digits, _"
            )
    for key in cluster.additional:
        if not SBATCH_OPTION.fullmatch(str(key)):
            raise ClusterError(f"cluster.additional has {key!r}, which is no option of sbatch; write mail_type: END")
    for key, text in _texts(cluster):
        if CONTROL.search(text):
            raise ClusterError(f"cluster.{key}={text!r} has a line break or a control character; write it in one line")
    for key, value in cluster.environment.items():
        if "\0" in str(value):
            raise ClusterError(f"cluster.environment.{key}={value!r} has a zero byte, which no variable can hold")


def _texts(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """What stands in one line of a script, by its key."""
    for key in ("partition", "account", "qos", "constraint", "exclude", "gpu_type", "container", "python"):
        yield key, getattr(cluster, key) or ""
    yield from ((f"steps.{kind}.{key}", getattr(r, key) or "") for kind, r in cluster.steps.items() for key in WHERE)
    yield from ((f"additional.{key}", str(value)) for key, value in cluster.additional.items())
    yield from (("srun", str(word)) for word in cluster.srun)


def _resources_from(kind: str, values: Mapping[str, Any]) -> Resources:
    require_fields(f"cluster.steps.{kind}", values, Resources)
    for name, value in values.items():
        smallest = SMALLEST.get(name, 1)
        if value is not None and name not in WHERE and value < smallest:
            raise ClusterError(f"cluster.steps.{kind}.{name}={value} must be at least {smallest}")
    return Resources(**values)
