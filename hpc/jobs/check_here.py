"""The site check inside a job that was not submitted by the launcher: slurm/check.sbatch.

in:  the variables of the job, what its later jobs will read
out: a report in root/check/job-ID; ClusterError with what is wrong

The job runs the environment that the later ones run, so versions are not compared with those of another machine.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any

from hpc.errors import ClusterError
from hpc.jobs.cluster import Resources
from hpc.jobs.inspection import Station, inspect
from hpc.jobs.owned import own_folder
from hpc.jobs.site_check import KIND, SiteCheck, versions_here
from hpc.ranks.placement import Placement


def check_here(
    root: Path,
    packages: Sequence[str],
    libraries: Sequence[str],
    program: str,
    inputs: Any,
    interrupted: type[BaseException],
    stop: Event,
) -> None:
    """All phases of a site check on this rank; `program` and `inputs` are those of a Sweep.

    Raises ClusterError outside a job, and for what is wrong.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or "SLURM_PROCID" not in os.environ:
        raise ClusterError(
            "stop_after=check looks at the nodes of a cluster; add -m hydra/launcher=slurm, or use slurm/check.sbatch"
        )
    placement = Placement.from_environment(os.environ)
    nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", "1"))
    asked = Resources(
        nodes=nodes,
        tasks_per_node=placement.size // nodes,
        gpus_per_node=int(os.environ.get("SLURM_GPUS_ON_NODE", "0")),
        cpus_per_task=1,
        mem_gb=None,
        timeout_min=1,
    )
    code = Path(__file__).parents[2]
    check = SiteCheck(
        root.absolute(),
        f"job {job}",
        0,
        asked,
        code,
        tuple(packages),
        versions_here(libraries),
        inputs,
    )
    folder = root.absolute() / KIND / f"job-{job}"
    own_folder(folder)  # another account may have guessed its name
    start = os.environ.get("SLURM_RESTART_COUNT", "0")
    (folder / f"rank-{start}-{placement.rank}.begun").touch()
    inspect(check, Station(placement, folder, stop, interrupted, program))
