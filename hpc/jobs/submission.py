"""From a sweep to jobs: everything that is missing goes into SLURM's queue.

in:  the sweep, the site, and whatever earlier submissions left in the queue
out: jobs; for each its script, payload and record, which are written before sbatch is called
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hpc.errors import ClusterError, Unanswered
from hpc.jobs import scheduler
from hpc.jobs.cluster import Cluster
from hpc.jobs.graph import Batch, Step, batches, identity
from hpc.jobs.job import Payload
from hpc.jobs.queue import Queue, Record, new_record
from hpc.jobs.reconcile import InFlight, failed_nodes, in_flight, stuck, take_out_hopeless
from hpc.jobs.sbatch import advice_on, sbatch, without_job_environment
from hpc.jobs.script import dependency_of, script_of
from hpc.jobs.sweep import Sweep


@dataclass(frozen=True)
class Submitted:
    """The outcome of a submission."""

    new: tuple[Record, ...]
    in_flight: dict[str, Record]  # by identity: steps that were in the queue already
    done: tuple[str, ...]  # identities
    code: str  # the snapshot that new jobs run


def submit(sweep: Sweep, cluster: Cluster) -> Submitted:
    """Put everything that is missing into the queue.

    Raises ClusterError if the site refuses a job; what was submitted before stays in the queue and on record.
    """
    require_possible(sweep, cluster)
    queue = Queue(sweep.root)
    with queue.locked(), without_job_environment():
        sweep.write_manifest()
        code = sweep.snapshot()
        queue.settle(scheduler.query(record.name for record in queue.records()))
        records = queue.records()
        known = scheduler.query(record.name for record in records)
        steps = sweep.steps
        identities = {identity(step) for step in steps}
        done = {identity(step) for step in steps if step.is_done}
        waiting = {step: job for step, job in in_flight(records, known).items() if step not in done}
        _cancel(take_out_hopeless(waiting, known, done, identities) + stuck(records, known, identities))
        before = {step: record for step, (record, _) in waiting.items() if step in identities}
        submission = _Submission(sweep, cluster, queue, code, waiting, failed_nodes(records, known, identities))
        missing = [step for step in steps[:-1] if identity(step) not in {*done, *waiting}]
        for batch in batches(missing, cluster.max_array):
            submission.add(batch, batch.needs, "afterok")
        if submission.add_last():
            before.pop(identity(sweep.last), None)
    return Submitted(tuple(submission.new), before, tuple(identity(step) for step in steps if step.is_done), code.name)


def require_possible(sweep: Sweep, cluster: Cluster) -> None:
    """Raises ClusterError if the site's config gives several processes to a step that one process has to do."""
    for step in sweep.steps:
        resources = cluster.resources(step.kind)
        if resources.num_ranks > 1 and not step.shared:
            raise ClusterError(
                f"cluster.steps.{step.kind} asks for {resources.nodes} nodes × {resources.tasks_per_node} tasks, but a "
                f"{step.kind} step is the work of one process; set nodes=1 and tasks_per_node=1 there"
            )
        if resources.num_ranks > 1 and not sweep.zero.stage:
            raise ClusterError(
                f"cluster.steps.{step.kind} asks for {resources.num_ranks} ranks, which zero=none cannot use; set "
                "zero=stage1, stage2 or stage3"
            )


def _cancel(records: Sequence[Record]) -> None:
    """Cancel jobs. Those of other accounts are named and stay; they do no harm to the jobs that replace them."""
    refused = scheduler.cancel(str(record.job_id) for record in records)
    for record in records:
        if record.job_id in refused:
            print(f"  job {record.job_id} hangs in the queue; only {record.by} may cancel it", file=sys.stderr)


@dataclass
class _Submission:
    """A submission under way."""

    sweep: Sweep
    cluster: Cluster
    queue: Queue
    code: Path
    waiting: InFlight
    bad_nodes: list[str]
    new: list[Record] = field(default_factory=list)

    def add(self, batch: Batch, needs: Sequence[Step], dependency: str) -> None:
        """Write what the job needs, then call sbatch. Its record is removed only if the site refuses the job."""
        needed = [step for step in needs if identity(step) in self.waiting]
        depends_on = [self.waiting[identity(step)] for step in needed]
        name = f"{batch.name}-{uuid.uuid4().hex[:6]}"
        folder = self.queue.batch_folder(name)
        folder.mkdir(parents=True)
        resources, cluster = self.cluster.resources(batch.kind), self.cluster.without(self.bad_nodes)
        record = new_record(
            name,
            batch.kind,
            [(identity(step), step.label, step.folder.absolute()) for step in batch.steps],
            after=list(dict.fromkeys(record.name for record, _ in depends_on)),
            needs=[identity(step) for step in needed] if dependency == "afterok" else [],
            gpus=resources.gpus_per_node * resources.nodes,
            code=self.code.name,
        )
        Payload.of(self.sweep, batch.steps, self.cluster.max_requeues).write(folder)
        script = folder / "job.sh"
        awaited = dependency_of(depends_on, dependency)
        text = script_of(batch, name, folder, cluster, awaited, self.code, self.sweep.environment)
        script.write_bytes(os.fsencode(text))  # a shell takes paths as the bytes that they are
        self.queue.write(record)
        record = replace(record, job_id=self._submit(script, record, cluster))
        self.queue.write(record)
        self.new.append(record)
        self.waiting.update({step: (record, index) for index, step in enumerate(record.steps)})

    def add_last(self) -> bool:
        """Add the sweep's last step, which waits for all others, unless a job for it is in flight that does so.

        Returns whether it was added.
        """
        *others, last = self.sweep.steps
        upstream = {self.waiting[identity(step)][0].name for step in others if identity(step) in self.waiting}
        job = self.waiting.get(identity(last))
        if job is not None and upstream <= set(job[0].after):
            return False
        if job is not None:
            _cancel([job[0]])
            del self.waiting[identity(last)]
        if last.is_done and not upstream:
            return False
        self.add(Batch((last,)), others, "afterany")
        return True

    def _submit(self, script: Path, record: Record, cluster: Cluster) -> str:
        """The id of the new job. Raises ClusterError, which says what to do next."""
        try:
            return sbatch(script, record.name)
        except Unanswered as error:  # the job may be in the queue; the next submission asks for its name
            raise Unanswered(f"{error}; run again later: what was submitted is found, nothing is lost") from error
        except ClusterError as error:
            self.queue.forget(record)
            advice = advice_on(str(error), cluster)
            raise ClusterError(f"{error}; {advice}nothing of what was submitted before is lost") from error
