"""From the points of a sweep to jobs: compose, merge, submit; then return, or wait for the results.

in:  the composed points, and the name of a plan: a function (configs, overrides) → Sweep
out: one JobReturn per point for Hydra's sweepers; with `wait` it holds the point's result
"""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from hpc.errors import ClusterError
from hpc.jobs import scheduler
from hpc.jobs.check_alone import check_alone
from hpc.jobs.cluster import cluster_from
from hpc.jobs.local import run_locally
from hpc.jobs.preview import preview
from hpc.jobs.site_check import KIND as CHECK
from hpc.jobs.submission import Submitted, submit
from hpc.jobs.sweep import Sweep
from hpc.jobs.waiting import wait_until_over
from hpc.ranks.zero import require_installed


def launch(
    where: str, plan: str, configs: Sequence[Any], overrides: Sequence[Sequence[str]], cluster: Any, wait: bool
) -> list[JobReturn]:
    """Run a sweep: `where` is "slurm" or "local". Local processes are always waited for.

    What steps read from outside is fetched first. Raises ClusterError if the site's config makes no sense, or SLURM is
    missing or refuses a job.
    """
    module, _, function = plan.rpartition(".")
    sweep: Sweep = getattr(importlib.import_module(module), function)(configs, overrides)
    site = cluster_from(dict(OmegaConf.to_container(OmegaConf.create(cluster), resolve=True)))  # type: ignore[arg-type]
    without_values = [job_return(words, None, failed=False) for words in overrides]
    if sweep.dry_run:
        preview(sweep, site)
        sweep.show_estimates()
        return without_values
    if sweep.stop_after == "fetch":
        sweep.fetch()
        return without_values
    if sweep.stop_after == CHECK and where != "slurm":
        raise ClusterError("stop_after=check looks at the nodes of a cluster; add hydra/launcher=slurm")
    if where == "slurm":
        scheduler.require_slurm()
    if sweep.stop_after == CHECK:
        sweep.fetch()
        check_alone(sweep, site)
        return without_values
    require_installed(sweep.zero)
    sweep.fetch()
    if where == "slurm":
        submitted = submit(sweep, site)
        show(sweep, submitted)
        if not wait:
            require_whole(sweep, submitted)
            return without_values
        wait_until_over(sweep, site, submitted)
    else:
        run_locally(sweep, site.array_parallelism)
    sweep.show()
    values = zip(overrides, sweep.values(), strict=True)
    return [job_return(words, value, failed=value is None) for words, value in values]


def require_whole(sweep: Sweep, submitted: Submitted) -> None:
    """Raises ClusterError where a part of the sweep is not in the queue, and says how to go on."""
    if submitted.refusal:
        new = sum(len(record.steps) for record in submitted.new if record.kind != CHECK)
        present = len(submitted.done) + len(submitted.in_flight) + new
        raise ClusterError(
            f"{len(sweep.steps) - present} of {len(sweep.steps)} steps are not submitted, since the site lets you "
            f"queue no more jobs now ({submitted.refusal}); the same command later submits them, and with "
            "hydra.launcher.wait=true it stays and does so by itself"
        )


def job_return(overrides: Sequence[str], value: float | None, failed: bool) -> JobReturn:
    """What a sweeper gets of a point. Hydra's sweeper raises the error of a failed one; others may go on searching."""
    if not failed:
        return JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED, _return_value=value)
    error = ClusterError(
        f"the point {' '.join(overrides)} is not done; see the table and the logs, the same command tries it again"
    )
    return FailedPoint(overrides=list(overrides), status=JobStatus.FAILED, _return_value=error)


class FailedPoint(JobReturn):
    """A JobReturn that raises its error and prints nothing, where Hydra's own also prints a line."""

    @property
    def return_value(self) -> Any:
        """Raises the error."""
        raise self._return_value

    @return_value.setter
    def return_value(self, value: Any) -> None:
        """Hydra's base class assigns it."""
        self._return_value = value


def show(sweep: Sweep, submitted: Submitted) -> None:
    """Print one line per kind of submitted step, and where to look for results and status."""
    kinds: dict[str, list[int]] = {}
    for record in submitted.new:
        kinds.setdefault(record.kind, []).append(len(record.steps))
    num_new = sum(sum(sizes) for kind, sizes in kinds.items() if kind != CHECK)
    print(
        f"{len(sweep.configs)} points, {len(sweep.steps)} steps: {len(submitted.done)} done, "
        f"{len(submitted.in_flight)} in the queue already, {num_new} submitted"
    )
    for kind, sizes in kinds.items():
        ids = ", ".join(str(record.job_id) for record in submitted.new if record.kind == kind)
        print(f"  {kind:10} {sum(sizes):4} steps in {len(sizes)} jobs: {ids}")
    codes = {record.code for record in submitted.in_flight.values()} - {submitted.code}
    others = sorted(code or "an older version's" for code in codes)
    if others:
        print(f"  of those in the queue already, some run other code than this submission's: {', '.join(others)}")
    folder = str(sweep.last.folder)
    print(f"results      {folder}\nstatus       {shlex.join(['python', '-m', 'neurogen.status', folder])}")
