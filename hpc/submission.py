"""From batches to jobs: the script, the payload and the record are written first, then sbatch is called once.

Where its answer is ambiguous (a time-out after which the job may be there all the same), the scheduler is asked for the
name before anything is submitted again.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hpc import scheduler
from hpc.cluster import Cluster
from hpc.errors import ClusterError
from hpc.graph import Batch, batches, identity
from hpc.job import Payload
from hpc.queue import Queue, Record, new_record
from hpc.study import Study


@dataclass(frozen=True)
class Submitted:
    """What a submission came to."""

    new: tuple[Record, ...]
    in_flight: tuple[str, ...]  # identities of steps that were in the queue already
    done: tuple[str, ...]


def submit(study: Study, cluster: Cluster) -> Submitted:
    """Put everything that is missing into the queue. Raises ClusterError; what was submitted stays on record."""
    queue = Queue(study.root)
    with queue.held(), without_job_environment():
        study.write_manifest()
        code = study.snapshot()
        known = scheduler.query(record.name for record in queue.records())
        queue.settle(known)
        waiting = in_flight(queue, scheduler.query(record.name for record in queue.records()))
        steps = study.steps
        missing = [step for step in steps[:-1] if not step.is_done and identity(step) not in waiting]
        new = []
        for batch in batches(missing, cluster.max_array):
            record = _submit_batch(batch, waiting, study, cluster, queue, code, "afterok")
            new.append(record)
            waiting.update({step: (record, index) for index, step in enumerate(record.steps)})
        flying = tuple(step for step in map(identity, steps[:-1]) if step in waiting and not _is_new(step, new))
        if (new or flying or not study.last.is_done) and identity(study.last) not in waiting:
            new.append(_submit_batch(Batch((study.last,)), waiting, study, cluster, queue, code, "afterany"))
        elif new:
            new.append(_replace_last(study, waiting, cluster, queue, code))
    return Submitted(tuple(new), flying, tuple(identity(step) for step in steps if step.is_done))


def in_flight(queue: Queue, known: scheduler.States) -> dict[str, tuple[Record, int]]:
    """By step identity, the job that waits or runs for it."""
    found = {}
    for record in queue.records():
        for step, task in record.states(known).items():
            if task.is_active:
                found[step] = (record, record.steps.index(step))
    return found


def _is_new(step: str, new: Sequence[Record]) -> bool:
    return any(step in record.steps for record in new)


def _replace_last(
    study: Study, waiting: dict[str, tuple[Record, int]], cluster: Cluster, queue: Queue, code: Path
) -> Record:
    """The last step waits already, but not for what was submitted just now."""
    old, _ = waiting.pop(identity(study.last))
    scheduler.ask(["scancel", str(old.job_id)])
    return _submit_batch(Batch((study.last,)), waiting, study, cluster, queue, code, "afterany")


def _submit_batch(
    batch: Batch,
    waiting: dict[str, tuple[Record, int]],
    study: Study,
    cluster: Cluster,
    queue: Queue,
    code: Path,
    dependency: str,
) -> Record:
    needed = study.steps[:-1] if dependency == "afterany" else batch.needs
    depends_on = [waiting[identity(step)] for step in needed if identity(step) in waiting]
    name = f"{batch.name}-{uuid.uuid4().hex[:6]}"
    place = queue.place(name)
    place.mkdir(parents=True)
    steps = [(identity(step), step.label, step.folder.absolute()) for step in batch.steps]
    after = list(dict.fromkeys(record.name for record, _ in depends_on))
    resources = cluster.resources(batch.kind)
    record = new_record(name, batch.kind, steps, after, resources.gpus_per_node * resources.nodes)
    Payload(batch.steps, study.make_runtime, study.interrupted, study.refused, cluster.max_requeues).write(place)
    script = place / "job.sh"
    script.write_text(script_of(batch, name, place, cluster, dependencies(depends_on, dependency), code))
    queue.write(record)
    try:
        record = replace(record, job_id=_sbatch(script, name))
    except ClusterError as error:
        queue.forget(record)
        raise ClusterError(
            f"{error}; {_hint(str(error), cluster)}nothing of what was submitted before is lost"
        ) from error
    queue.write(record)
    return record


def dependencies(depends_on: Sequence[tuple[Record, int]], kind: str) -> str | None:
    """afterok:10:11_2: whole jobs where all their steps are needed, else single tasks."""
    by_record: dict[str, tuple[Record, set[int]]] = {}
    for record, index in depends_on:
        by_record.setdefault(record.name, (record, set()))[1].add(index)
    ids: list[str] = []
    for record, indices in by_record.values():
        if not record.is_array or len(indices) == len(record.steps):
            ids.append(str(record.job_id))
        else:
            ids += [f"{record.job_id}_{index}" for index in sorted(indices)]
    return f"{kind}:{':'.join(ids)}" if ids else None


def script_of(batch: Batch, name: str, place: Path, cluster: Cluster, dependency: str | None, code: Path) -> str:
    """The sbatch script, in submitit's words."""
    from submitit.slurm.slurm import _make_sbatch_string

    asked = cluster.resources(batch.kind)
    additional = dict(cluster.additional) | {"requeue": True}
    if cluster.kill_on_invalid_dep and dependency:
        additional["kill-on-invalid-dep"] = "yes"
    exports = [f"export {key}={shlex.quote(str(value))}" for key, value in cluster.environment.items()]
    text: str = _make_sbatch_string(
        command=shlex.join([sys.executable, "-P", "-u", "-m", "hpc", str(place)]),
        folder=place,
        job_name=name,
        partition=cluster.partition,
        account=cluster.account,
        qos=cluster.qos,
        constraint=cluster.constraint,
        exclude=cluster.exclude,
        time=asked.timeout_min,
        nodes=asked.nodes,
        ntasks_per_node=asked.tasks_per_node,
        cpus_per_task=asked.cpus_per_task,
        gpus_per_node=asked.gpus_per_node or None,
        mem=f"{round(asked.mem_gb * 1024)}MB",
        signal_delay_s=cluster.signal_delay_s,
        dependency=dependency,
        array_parallelism=cluster.array_parallelism,
        map_count=len(batch.steps) if len(batch.steps) > 1 else None,
        stderr_to_stdout=True,
        setup=[
            *cluster.setup,
            *exports,
            # the snapshot first, then what was importable where the sweep was submitted
            f"export PYTHONPATH={shlex.quote(str(code))}:{shlex.quote(os.getcwd())}:$PYTHONPATH",
            f"export OMP_NUM_THREADS={asked.cpus_per_task}",
            "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK",  # since SLURM 22.05 srun is not told
        ],
        additional_parameters=additional,
        wckey=None,  # submitit's default would need accounting
    )
    return text


def log_path(record: Record, place: Path, index: int) -> Path:
    job = f"{record.job_id}_{index}" if record.is_array else str(record.job_id)
    return place / f"{job}_0_log.out"


def _sbatch(script: Path, name: str) -> str:
    """The id of the job that this script is now, however often the controller had to be asked."""
    for attempt in range(scheduler.ATTEMPTS):
        done = subprocess.run(["sbatch", "--parsable", str(script)], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            found = re.match(r"\d+", done.stdout.strip())
            assert found, done.stdout
            return found[0]
        message = " ".join(done.stderr.split())
        if not scheduler.is_ambiguous(message):
            raise ClusterError(message.removeprefix("sbatch: error: "))
        print(f"  {message}; asking whether {name} is in the queue all the same", file=sys.stderr, flush=True)
        time.sleep(scheduler.pause(attempt))
        heard_of = scheduler.query([name]).get(name)
        if heard_of:
            return heard_of[-1].job_id
    raise ClusterError(
        f"sbatch did not get through to the controller in {scheduler.ATTEMPTS} attempts; run again later"
    )


def _hint(message: str, cluster: Cluster) -> str:
    for part, advice in (
        ("partition", f"set cluster.partition (now {cluster.partition}); `sinfo` lists them; "),
        ("array", f"lower cluster.max_array (now {cluster.max_array}); "),
        ("time limit", "lower cluster.steps.default.timeout_min, or that of the step; "),
        ("account", f"set cluster.account (now {cluster.account}); "),
        ("QOS", f"set cluster.qos (now {cluster.qos}); "),
        ("node configuration", "lower cluster.steps.default, or what that step asks for; "),
    ):
        if part.lower() in message.lower():
            return advice
    return ""


@contextmanager
def without_job_environment() -> Iterator[None]:
    """Inside a job, sbatch would take over the job's own resources from SLURM_* and SBATCH_*."""
    keep = ("SLURM_CONF",)
    hidden = {
        key: value for key, value in os.environ.items() if key.startswith(("SLURM_", "SBATCH_")) and key not in keep
    }
    for key in hidden:
        del os.environ[key]
    try:
        yield
    finally:
        os.environ.update(hidden)
