"""What a sweep would submit, without a scheduler: the graph, one script of every kind, what it asks for in all."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from hpc.jobs.cluster import Cluster
from hpc.jobs.graph import Batch, batches, identity
from hpc.jobs.queue import Queue
from hpc.jobs.study import Study
from hpc.jobs.submission import script_of


def preview(study: Study, cluster: Cluster) -> None:
    steps = study.steps
    missing = [step for step in steps if not step.is_done]
    found = batches(missing, cluster.max_array)
    of_step = {identity(step): number for number, batch in enumerate(found) for step in batch.steps}
    table = Table(*"job steps after nodes GPUs CPUs GB minutes what".split(), box=box.SIMPLE_HEAD, padding=(0, 1))
    scripts: dict[str, str] = {}
    for number, batch in enumerate(found):
        is_last = batch.steps[0] is study.last
        needed = sorted(
            {
                of_step[identity(step)]
                for step in (missing[:-1] if is_last else batch.needs)
                if identity(step) in of_step
            }
        )
        asked = cluster.resources(batch.kind)
        numbers = (
            asked.nodes,
            asked.nodes * asked.gpus_per_node,
            asked.nodes * asked.tasks_per_node * asked.cpus_per_task,
        )
        after = "everything" if is_last else ", ".join(f"{one}" for one in needed)
        what = f"{batch.kind} {batch.steps[0].label}"
        cells = (number, len(batch.steps), after, *numbers, f"{asked.mem_gb:g}", asked.timeout_min, what)
        table.add_row(*map(str, cells))
        dependency = ":".join(["afterany" if is_last else "afterok", *(f"JOB{one}" for one in needed)])
        scripts.setdefault(batch.kind, script(batch, study, cluster, dependency if needed else None))
    console = Console(highlight=False, soft_wrap=True, markup=False, width=140)
    done = len(steps) - len(missing)
    console.print(f"{len(study.configs)} points, {len(steps)} steps, {done} of them done; {len(found)} jobs to submit")
    console.print(table)
    for kind, text in scripts.items():
        console.rule(f"the first script of kind {kind}", align="left")
        console.print(text)


def script(batch: Batch, study: Study, cluster: Cluster, dependency: str | None) -> str:
    place = Queue(study.root.absolute()).place(f"{batch.name}-……")
    return script_of(batch, batch.name, place, cluster, dependency, Path("code"))
