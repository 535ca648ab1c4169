"""The sbatch script of a batch.

in:  a batch, the jobs that it waits for, the site
out: the script's text, with submitit's options; and where the log of a step will be
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpc.jobs.cluster import Cluster, Resources
from hpc.jobs.graph import Batch
from hpc.jobs.queue import Record


def dependency_of(needed: Sequence[tuple[Record, int]], kind: str) -> str | None:
    """The option --dependency of `kind` (afterok, afterany) on steps, given as (record, index); None without any.

    Such as afterok:10:11_2: a whole job where all its steps are needed, else its single tasks.
    """
    by_record: dict[str, tuple[Record, set[int]]] = {}
    for record, index in needed:
        by_record.setdefault(record.name, (record, set()))[1].add(index)
    ids: list[str] = []
    for record, indices in by_record.values():
        if not record.is_array or len(indices) == len(record.steps):
            ids.append(str(record.job_id))
        else:
            ids += [f"{record.job_id}_{index}" for index in sorted(indices)]
    return f"{kind}:{':'.join(ids)}" if ids else None


def script_of(
    batch: Batch,
    name: str,
    folder: Path,
    cluster: Cluster,
    dependency: str | None,
    code: Path,
    environment: Mapping[str, str],
) -> str:
    """The script that runs a batch from its folder, with the snapshot `code` and these variables."""
    from submitit.slurm.slurm import _make_sbatch_string

    resources = cluster.resources(batch.kind)
    options = {"requeue": True} | cluster.additional
    additional = {option: value for option, value in options.items() if value is not False}  # False: the site's default
    if cluster.kill_on_invalid_dep and dependency:
        additional["kill-on-invalid-dep"] = "yes"
    text: str = _make_sbatch_string(
        command=shlex.join([sys.executable, "-P", "-u", "-m", "hpc", str(folder)]),
        folder=folder,
        job_name=name,
        partition=cluster.partition,
        account=cluster.account,
        qos=cluster.qos,
        constraint=cluster.constraint,
        exclude=cluster.exclude,
        time=resources.timeout_min,
        nodes=resources.nodes,
        ntasks_per_node=resources.tasks_per_node,
        cpus_per_task=resources.cpus_per_task,
        gpus_per_node=resources.gpus_per_node or None,
        mem=f"{round(resources.mem_gb * 1024)}MB",
        signal_delay_s=cluster.signal_delay_s,
        dependency=dependency,
        array_parallelism=cluster.array_parallelism,
        map_count=len(batch.steps) if len(batch.steps) > 1 else None,
        stderr_to_stdout=True,
        srun_args=["--kill-on-bad-exit=1"],  # if one rank fails, end all
        setup=_setup(cluster, resources, code, environment),
        additional_parameters=additional,
        wckey=None,  # submitit's default would need accounting
    )
    return text


def _setup(cluster: Cluster, resources: Resources, code: Path, environment: Mapping[str, str]) -> list[str]:
    """Lines of shell before the step."""
    variables = {**environment, **cluster.environment}
    return [
        *cluster.setup,
        *(f"export {key}={shlex.quote(str(value))}" for key, value in variables.items()),
        # the snapshot first, then what was importable where the sweep was submitted
        f"export PYTHONPATH={shlex.quote(str(code))}:{shlex.quote(os.getcwd())}:$PYTHONPATH",
        f"export OMP_NUM_THREADS={resources.cpus_per_task}",
        "export PYTHONUTF8=1",  # names of files are what they were where the sweep was submitted
        "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK",  # since SLURM 22.05 srun does not inherit it
    ]


def log_path(record: Record, folder: Path, index: int) -> Path:
    """The log of rank 0 of a step, in the batch's folder."""
    job = f"{record.job_id}_{index}" if record.is_array else str(record.job_id)
    return folder / f"{job}_0_log.out"
