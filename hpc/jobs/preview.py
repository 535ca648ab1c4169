"""What a sweep would submit, printed without a scheduler: the graph of jobs, and the first script of every kind."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from hpc.jobs.cluster import Cluster
from hpc.jobs.graph import Batch, Step, batches, identity
from hpc.jobs.queue import Queue
from hpc.jobs.script import script_of
from hpc.jobs.site_check import KIND, SiteCheck, site_checks
from hpc.jobs.sweep import Sweep, code_folder_of

WIDTH = 140
COLUMNS = ("job", "steps", "after", "nodes", "GPUs", "CPUs", "GB", "minutes", "work")


def preview(sweep: Sweep, cluster: Cluster) -> None:
    """Print a table with a row per job and what it asks for, then the scripts."""
    steps = sweep.steps
    missing = [step for step in steps if not step.is_done]
    checks = _checks(sweep, cluster, missing)
    jobs = [*(Batch((check,)) for check in checks), *batches(missing, cluster.max_array)]
    job_of = {identity(step): index for index, job in enumerate(jobs) for step in job.steps}
    table = Table(*COLUMNS, box=box.SIMPLE_HEAD, padding=(0, 1))
    scripts: dict[str, str] = {}
    for index, job in enumerate(jobs):
        is_last = job.steps[0] is sweep.last
        needs: list[Step] = missing[:-1] if is_last else job.needs
        needed = sorted({job_of[identity(step)] for step in needs if identity(step) in job_of})
        first = [] if job.kind == KIND else list(range(len(checks)))
        site = _asking(cluster, job.steps[0])
        after = "everything" if is_last else ", ".join(map(str, [*first, *needed]))
        table.add_row(str(index), *_cells(job, site, after))
        groups = [("afterok", first), ("afterany", needed)] if is_last else [("afterok", first + needed)]
        options = [":".join([word, *(f"JOB{before}" for before in group)]) for word, group in groups if group]
        if job.kind not in scripts:
            scripts[job.kind] = _script(job, sweep, site, ",".join(options) or None)
    console = Console(highlight=False, soft_wrap=True, markup=False, width=WIDTH)
    done = len(steps) - len(missing)
    console.print(f"{len(sweep.configs)} points, {len(steps)} steps, {done} of them done; {len(jobs)} jobs to submit")
    console.print(table)
    for kind, text in scripts.items():
        console.rule(f"the first script of kind {kind}", align="left")
        console.print(text)


def _checks(sweep: Sweep, cluster: Cluster, missing: list[Step]) -> list[SiteCheck]:
    """The site checks that would be submitted."""
    if not (sweep.site_check and missing):
        return []
    return [check for check in site_checks(sweep, cluster, sweep.code_folder(), missing) if not check.is_done]


def _asking(cluster: Cluster, step: Step) -> Cluster:
    return cluster.asking(KIND, step.resources) if isinstance(step, SiteCheck) else cluster


def _cells(job: Batch, cluster: Cluster, after: str) -> list[str]:
    """A row of the table without its first column."""
    resources = cluster.resources(job.kind)
    return [
        str(len(job.steps)),
        after,
        str(resources.nodes),
        str(resources.nodes * resources.gpus_per_node),
        str(resources.num_ranks * resources.cpus_per_task),
        "–" if resources.mem_gb is None else f"{resources.mem_gb:g}",
        str(resources.timeout_min),
        f"{job.kind} {job.steps[0].label}",
    ]


def _script(job: Batch, sweep: Sweep, cluster: Cluster, dependency: str | None) -> str:
    folder = Queue(sweep.root.absolute()).batch_folder(f"{job.name}-……")
    code = code_folder_of(sweep.root) / "……"
    return script_of(job, job.name, folder, cluster, dependency, code, sweep.program, sweep.environment, digest="……")
