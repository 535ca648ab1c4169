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
from dataclasses import dataclass, field, replace
from pathlib import Path

from hpc.errors import ClusterError, Unanswered
from hpc.jobs import scheduler
from hpc.jobs.cluster import Cluster
from hpc.jobs.graph import Batch, Step, batches, identity
from hpc.jobs.job import payload_of
from hpc.jobs.queue import Queue, Record, new_record
from hpc.jobs.study import Study


@dataclass(frozen=True)
class Submitted:
    """What a submission came to."""

    new: tuple[Record, ...]
    in_flight: dict[str, Record]  # by identity, steps that were in the queue already
    done: tuple[str, ...]
    code: str


def submit(study: Study, cluster: Cluster) -> Submitted:
    """Put everything that is missing into the queue. Raises ClusterError; what was submitted stays on record."""
    require_possible(study, cluster)
    queue = Queue(study.root)
    with queue.held(), without_job_environment():
        study.write_manifest()
        code = study.snapshot()
        queue.settle(scheduler.query(record.name for record in queue.records()))
        records = queue.records()
        known = scheduler.query(record.name for record in records)
        own = study.steps
        identities = {identity(step) for step in own}
        done = {identity(step) for step in own if step.is_done}
        waiting = {step: job for step, job in in_flight(records, known).items() if step not in done}
        _cancel(take_out_hopeless(waiting, known, done, identities) + stuck(records, known, identities))
        before = {step: record for step, (record, _) in waiting.items() if step in identities}
        submission = _Submission(study, cluster, queue, code, waiting, failed_nodes(records, known, identities))
        missing = [step for step in own[:-1] if identity(step) not in {*done, *waiting}]
        for batch in batches(missing, cluster.max_array):
            submission.add(batch, batch.needs, "afterok")
        last = waiting.get(identity(study.last))
        upstream = {waiting[identity(step)][0].name for step in own[:-1] if identity(step) in waiting}
        if last is not None and not upstream <= set(last[0].after):  # it would not wait for all of them
            _cancel([last[0]])
            del waiting[identity(study.last)], before[identity(study.last)]
        if identity(study.last) not in waiting and (upstream or not study.last.is_done):
            submission.add(Batch((study.last,)), own[:-1], "afterany")
    return Submitted(tuple(submission.new), before, tuple(identity(step) for step in own if step.is_done), code.name)


def require_possible(study: Study, cluster: Cluster) -> None:
    """Raises ClusterError where several processes are asked for, for what one has to do."""
    for step in study.steps:
        asked = cluster.resources(step.kind)
        if asked.num_ranks > 1 and not step.shared:
            raise ClusterError(
                f"cluster.steps.{step.kind} asks for {asked.nodes} nodes × {asked.tasks_per_node} tasks, but a "
                f"{step.kind} step is the work of one process; set nodes=1 and tasks_per_node=1 there"
            )
        if asked.num_ranks > 1 and not study.zero.stage:
            raise ClusterError(
                f"cluster.steps.{step.kind} asks for {asked.num_ranks} ranks, which zero=none cannot put to work; set "
                "zero=stage1, stage2 or stage3"
            )


def _cancel(records: Sequence[Record]) -> None:
    """What belongs to others stays, and is named; it does no harm to what is submitted instead."""
    refused = scheduler.cancel(str(record.job_id) for record in records)
    for record in records:
        if record.job_id in refused:
            print(f"  job {record.job_id} hangs in the queue; only {record.by} may cancel it", file=sys.stderr)


def in_flight(records: Sequence[Record], known: scheduler.States) -> dict[str, tuple[Record, int]]:
    """By step identity, the job that waits or runs for it."""
    return {
        step: (record, record.steps.index(step))
        for record in records
        for step, task in record.states(known).items()
        if task.is_active
    }


def take_out_hopeless(
    waiting: dict[str, tuple[Record, int]], known: scheduler.States, done: set[str], identities: set[str]
) -> list[Record]:
    """Remove from `waiting` those of these steps that wait for a job which ended without doing what they need; returns
    their jobs. What runs is not asked: it has what it needs, even where its marker is not to be seen from here yet."""
    found: list[Record] = []
    while True:
        hopeless = {
            record.name: record
            for step, (record, _) in waiting.items()
            if step in identities
            and all(task.state in scheduler.PENDING for task in record.states(known).values())
            and any(
                needed not in done and (needed not in waiting or waiting[needed][0].name not in record.after)
                for needed in record.needs
            )
        }
        if not hopeless:
            return found
        found += hopeless.values()
        for step in [step for step, (record, _) in waiting.items() if record.name in hopeless]:
            del waiting[step]


def stuck(records: Sequence[Record], known: scheduler.States, identities: set[str]) -> list[Record]:
    """Jobs that wait for what has failed, and would wait for ever."""
    return [
        record
        for record in records
        if identities & set(record.steps) and any(task.is_stuck for task in record.states(known).values())
    ]


def failed_nodes(records: Sequence[Record], known: scheduler.States, identities: set[str]) -> list[str]:
    """Nodes that failed when one of these steps was tried last, as far as squeue or accounting remember; never all
    that the site has."""
    newest = {step: record for record in records for step in record.steps if step in identities}
    remembered = scheduler.history(str(record.job_id) for record in newest.values())
    found = {
        task.node
        for step, record in newest.items()
        for task in [*record.states(known).values(), *remembered.get(record.name, [])]
        if task.state in scheduler.BAD_NODE and task.index in (None, record.steps.index(step))
    }
    site = scheduler.nodes() if found else set()
    return sorted(found & site) if site - found else []


@dataclass
class _Submission:
    """One submission under way: what it works with, and what it has submitted."""

    study: Study
    cluster: Cluster
    queue: Queue
    code: Path
    waiting: dict[str, tuple[Record, int]]
    bad_nodes: list[str]
    new: list[Record] = field(default_factory=list)

    def add(self, batch: Batch, needed: Sequence[Step], dependency: str) -> None:
        """Write what the job needs, then call sbatch; forget it again only where the site refuses it."""
        needed = [step for step in needed if identity(step) in self.waiting]
        depends_on = [self.waiting[identity(step)] for step in needed]
        name = f"{batch.name}-{uuid.uuid4().hex[:6]}"
        place = self.queue.place(name)
        place.mkdir(parents=True)
        study, resources = self.study, self.cluster.resources(batch.kind)
        record = new_record(
            name,
            batch.kind,
            [(identity(step), step.label, step.folder.absolute()) for step in batch.steps],
            after=list(dict.fromkeys(record.name for record, _ in depends_on)),
            needs=[identity(step) for step in needed] if dependency == "afterok" else [],
            gpus=resources.gpus_per_node * resources.nodes,
            code=self.code.name,
        )
        payload_of(study, batch.steps, self.cluster.max_requeues).write(place)
        script = place / "job.sh"
        cluster = self.cluster.without(self.bad_nodes)
        script.write_text(script_of(batch, name, place, cluster, dependencies(depends_on, dependency), self.code))
        self.queue.write(record)
        try:
            record = replace(record, job_id=_sbatch(script, name))
        except Unanswered as error:  # it may be in the queue; whoever submits next asks for its name
            raise Unanswered(f"{error}; run again later: what was submitted is found, nothing is lost") from error
        except ClusterError as error:
            self.queue.forget(record)
            hint = _hint(str(error), cluster)
            raise ClusterError(f"{error}; {hint}nothing of what was submitted before is lost") from error
        self.queue.write(record)
        self.new.append(record)
        self.waiting.update({step: (record, index) for index, step in enumerate(record.steps)})


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
    additional = {"requeue": True} | cluster.additional
    additional = {name: value for name, value in additional.items() if value is not False}  # False: the site's way
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
        srun_args=["--kill-on-bad-exit=1"],  # one rank that ends badly ends all
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
    """The id of the job that this script is now, however often the controller had to be asked.

    Raises ClusterError where the site refuses it, Unanswered where the job may be in the queue or not.
    """
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
        try:
            heard_of = scheduler.query([name]).get(name)
        except ClusterError as error:
            raise Unanswered(f"{message}, and then {error}") from error
        if heard_of:
            return heard_of[-1].job_id
    raise Unanswered(f"sbatch did not get through to the controller in {scheduler.ATTEMPTS} attempts")


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
