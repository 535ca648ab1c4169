"""The site check: a short job in front of all others, which sees whether the nodes have what a sweep needs.

in:  a sweep, the site, the snapshot of the code that its jobs will run
out: one step for every node type that the sweep uses; report.json in its folder, and DONE if nothing is wrong

A node type is how many nodes, ranks and GPUs a job asks for. A check that has passed counts for a day, for the same
site, code, environment and inputs; after that it is a new check, in a folder of its own, so that jobs which wait for
the earlier one still have what they need.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc.jobs.cluster import WHERE, Cluster, Resources
from hpc.jobs.graph import Step

if TYPE_CHECKING:
    from hpc.jobs.sweep import Sweep

KIND = "check"
MARKER = "DONE"
VALID_S = 24 * 3600.0
DECISIVE = ("name", "gpu_type", "setup", "environment", "additional", "container", "python", "srun")
SHAPE = ("nodes", "tasks_per_node", "gpus_per_node")
MINUTES, MOST_CPUS, MOST_GB_PER_RANK = 10, 2, 8.0  # what a check asks for, and no more than its steps: it starts soon


@dataclass(frozen=True)
class SiteCheck:
    """A hpc.jobs.graph.Step: the check of one node type."""

    root: Path
    digest: str  # of what it is valid for
    number: int  # of earlier checks of the same, which are too old
    resources: Resources
    code: Path  # the snapshot that jobs run
    packages: tuple[str, ...]  # what it consists of
    versions: dict[str, str]  # of Python and the libraries, where the sweep was submitted
    inputs: Any  # the data and the models' files, as the program of the steps describes them

    kind = KIND
    array = None
    shared = True
    needs = ()

    @property
    def key(self) -> str:
        """A hash of what it is valid for, and of its number."""
        return hashlib.sha256(f"{self.digest} {self.number}".encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        """The node type."""
        return label_of(self.resources)

    @property
    def folder(self) -> Path:
        """Where its report goes."""
        return self.root / KIND / f"{self.label}-{self.key}"

    @property
    def marker(self) -> Path:
        """A file that exists once it has passed."""
        return self.folder / MARKER

    def as_values(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self) | {"root": str(self.root), "code": str(self.code)}

    @staticmethod
    def from_values(values: dict[str, Any]) -> SiteCheck:
        """What `as_values` gave. Raises KeyError or TypeError for anything else."""
        made = {
            "root": Path(values["root"]),
            "code": Path(values["code"]),
            "resources": Resources(**values["resources"]),
            "packages": tuple(values["packages"]),
        }
        return SiteCheck(**{**values, **made})

    @property
    def age_s(self) -> float | None:
        """How long ago it passed; None if it has not."""
        return max(0.0, time.time() - self.marker.stat().st_mtime) if self.marker.exists() else None

    @property
    def is_done(self) -> bool:
        """Whether it has passed."""
        return self.marker.exists()

    def run(self, runtime: Any) -> None:
        """Do the work: `runtime` is a hpc.jobs.inspection.Station. Raises ClusterError with all that is wrong."""
        from hpc.jobs.inspection import inspect

        inspect(self, runtime)


def label_of(resources: Resources) -> str:
    """A node type in words, such as 2-nodes-8-ranks-8-gpus."""
    gpus = resources.nodes * resources.gpus_per_node
    counts = {"node": resources.nodes, "rank": resources.num_ranks if resources.num_ranks > 1 else 0, "gpu": gpus}
    return "-".join(f"{number}-{noun}{'s' * (number > 1)}" for noun, number in counts.items() if number)


def site_checks(
    sweep: Sweep, cluster: Cluster, code: Path, steps: Sequence[Step], anew: bool = False
) -> list[SiteCheck]:
    """The checks that stand before these steps, those that have passed within a day included; `anew`: without those."""
    inputs = json.dumps(sweep.inputs, sort_keys=True)
    versions = versions_here(sweep.libraries)
    checks: list[SiteCheck] = []
    root = sweep.root.absolute()
    for resources in node_types(cluster, steps):
        site = [getattr(cluster, name) for name in DECISIVE]
        valid_for = site, shape_of(resources), code.name, sorted(versions.items()), str(root), inputs
        digest = hashlib.sha256(repr(valid_for).encode()).hexdigest()
        first = SiteCheck(root, digest, 0, resources, code, sweep.packages, versions, sweep.inputs)
        checks.append(newest(first, 0.0 if anew else VALID_S))
    return checks


def newest(check: SiteCheck, valid_s: float) -> SiteCheck:
    """The last check of the same that was begun, or the one after it if that passed longer than `valid_s` ago."""
    for number in count():
        check, after = replace(check, number=number), replace(check, number=number + 1)
        if not after.folder.exists():
            break
    return after if check.age_s is not None and check.age_s >= valid_s else check


def node_types(cluster: Cluster, steps: Sequence[Step]) -> list[Resources]:
    """What a check asks for, once for every node type of these steps. cluster.steps.check says it otherwise."""
    given = cluster.steps.get(KIND)
    types: dict[tuple[Any, ...], Resources] = {}
    for kind in dict.fromkeys(step.kind for step in steps):
        needed = cluster.resources(kind)
        asked = given or replace(
            needed,
            cpus_per_task=min(MOST_CPUS, needed.cpus_per_task),
            mem_gb=needed.mem_gb and min(MOST_GB_PER_RANK * needed.tasks_per_node, needed.mem_gb),
            timeout_min=MINUTES,
        )
        asked = replace(asked, **{name: getattr(needed, name) for name in SHAPE})
        asked = replace(asked, **{name: getattr(asked, name) or getattr(needed, name) for name in WHERE})
        known = types.setdefault(shape_of(needed), asked)
        if (asked.mem_gb or 0.0) > (known.mem_gb or 0.0):
            types[shape_of(needed)] = asked
    return list(types.values())


def shape_of(resources: Resources) -> tuple[Any, ...]:
    """What tells node types apart."""
    return tuple(getattr(resources, name) for name in (*SHAPE, *WHERE))


def versions_here(libraries: Sequence[str]) -> dict[str, str]:
    """The versions of Python and of those of these distributions that are installed, without importing them."""
    versions = {"Python": platform.python_version()}
    for name in libraries:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "missing"
    return versions


def passed(root: Path) -> set[str]:
    """The identities of all checks under a root that have passed, however long ago."""
    return {f"{KIND}-{path.parent.name.rpartition('-')[2]}" for path in (root / KIND).glob(f"*/{MARKER}")}
