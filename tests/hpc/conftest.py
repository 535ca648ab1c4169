"""What tests of jobs share: a site, the graph of some points, and a sweep that nobody runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from hpc.jobs.cluster import Cluster, cluster_from
from hpc.jobs.graph import in_order
from hpc.jobs.sweep import Sweep
from hpc.ranks.zero import Zero
from neurogen.choices import conf_folder
from neurogen.config import Experiment
from neurogen.study.graph import steps_of

PROGRAM = "neurogen.program"
Composed = Callable[..., Experiment]


def site(*overrides: str) -> Cluster:
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        return cluster_from(OmegaConf.to_container(compose("config", list(overrides)).cluster))  # type: ignore[arg-type]


def graph(experiment: Composed, *points: str) -> list[Any]:
    """The steps of these points, in order."""
    return in_order([steps_of([experiment(*point.split()) for point in points])])


def sweep_of(experiment: Composed, root: Path, *packages: str) -> Sweep:
    """A sweep of one point that copies the code of these packages."""
    return sweep_to(steps_of([experiment()]), root, *packages)


def sweep_to(last: Any, root: Path, *packages: str) -> Sweep:
    """The sweep whose last step this is."""
    return Sweep(
        last=last,
        root=root,
        program=PROGRAM,
        runtime={},
        inputs={},
        packages=packages,
        configs=({},),
        overrides=((),),
        values=list,
        commit="abc",
        zero=Zero(stage=0, offload=False, whole_below=0, rank_timeout_s=300),
        libraries=("torch",),
        site_check=False,
        dry_run=False,
        fetch=dict,
        stop_after=None,
        environment={},
        show_estimates=dict,
        show=dict,
    )
