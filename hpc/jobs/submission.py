"""From a sweep to jobs: everything that is missing goes into SLURM's queue.

in:  the sweep, the site, and whatever earlier submissions left in the queue
out: jobs; for each its script, payload and record, which are written before sbatch is called
"""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hpc.errors import ClusterError, Unanswered
from hpc.jobs import scheduler
from hpc.jobs.attempts import RESERVE, RESERVED_BYTES
from hpc.jobs.cluster import Cluster
from hpc.jobs.files import write_bytes
from hpc.jobs.graph import Batch, Step, batches, identity
from hpc.jobs.limits import LimitReached, NoNodeLeft, lacks_nodes, largest_array, limit_in
from hpc.jobs.payload import Payload
from hpc.jobs.queue import Queue, Record, new_record, states_of
from hpc.jobs.reconcile import (
    InFlight,
    failed_nodes,
    in_flight,
    require_nothing_elsewhere,
    stuck,
    take_out_hopeless,
)
from hpc.jobs.sbatch import advice_on, sbatch, without_job_environment
from hpc.jobs.script import dependency_of, script_of
from hpc.jobs.site_check import KIND, MARKER, SiteCheck, passed, site_checks
from hpc.jobs.sweep import ManifestStep, Sweep


@dataclass(frozen=True)
class Submitted:
    """The outcome of a submission."""

    new: tuple[Record, ...]
    in_flight: dict[str, Record]  # by identity: steps that were in the queue already
    done: tuple[str, ...]  # identities
    code: str  # the snapshot that new jobs run
    checks: tuple[SiteCheck, ...] = ()  # that the new jobs hang on
    refusal: str = ""  # why the rest was not submitted; empty where everything was


def submit(sweep: Sweep, cluster: Cluster, tried: Collection[str] = (), only_check: bool = False) -> Submitted:
    """Put everything that is missing into the queue, in front of it the site check; or as much as the site takes.

    `tried` are identities of steps that are not tried again: with what needs them, they stay as they are. With
    `only_check` the check is submitted alone.

    Raises ClusterError if the site refuses a job; what was submitted before stays in the queue and on record.
    """
    require_possible(sweep, cluster)
    queue = Queue(sweep.root)
    with queue.locked(), without_job_environment():
        sweep.write_configs()
        sweep.write_manifest()
        code = sweep.snapshot()
        on_record = queue.records()
        known = states_of(on_record)
        records = queue.settle(known)
        steps = sweep.steps
        identities = {identity(step) for step in steps}
        done = {identity(step) for step in steps if step.is_done} | passed(sweep.root)
        require_nothing_elsewhere(on_record, known, identities - done)
        waiting = {step: job for step, job in in_flight(queue, records, known).items() if step not in done}
        _cancel(take_out_hopeless(waiting, known, done, identities) + stuck(records, known, identities))
        before = {step: record for step, (record, _) in waiting.items() if step in identities}
        number = max((record.submission + 1 for record in on_record), default=0)
        bad_nodes = failed_nodes(queue, records, known, identities - done)
        submission = _Submission(sweep, cluster, queue, number, code, waiting, bad_nodes)
        missing, last = missing_steps(steps[:-1], {*done, *waiting}, tried), identity(sweep.last)
        is_in_vain, refusal = last in tried and not missing, ""
        try:
            if only_check:
                submission.add_checks(steps, anew=True)
            elif sweep.site_check and (missing or (submission.last_is_due() and not is_in_vain)):
                submission.add_checks([*missing, sweep.last])
            sweep.write_manifest(submission.checks_of_the_sweep(records, before))
            for batch in [] if only_check else batches(missing, largest_array(cluster.max_array)):
                submission.add_what_fits(batch)
            if not only_check and not is_in_vain and submission.last_is_due():
                submission.add_last()
                before.pop(last, None)
        except LimitReached as error:
            refusal = str(error)
    finished = tuple(identity(step) for step in steps if step.is_done)
    return Submitted(tuple(submission.new), before, finished, code.name, tuple(submission.checks), refusal)


def missing_steps(steps: Sequence[Step], present: Collection[str], tried: Collection[str]) -> list[Step]:
    """The steps, in order, that are not done or in flight, and that wait for nothing that was tried in vain."""
    missing, in_vain = [], set[str]()
    for step in steps:
        if identity(step) in present:
            continue
        if identity(step) in tried or any(identity(needed) in in_vain for needed in step.needs):
            in_vain.add(identity(step))
        else:
            missing.append(step)
    return missing


def require_possible(sweep: Sweep, cluster: Cluster) -> None:
    """Raises ClusterError if the site's config gives several processes to a step that one process has to do."""
    for step in sweep.steps:
        resources = cluster.resources(step.kind)
        if resources.num_ranks > 1 and not step.shared:
            raise ClusterError(
                f"cluster.steps.{step.kind} asks for {resources.nodes} nodes × {resources.tasks_per_node} tasks, but a "
                f"{step.kind} step is the work of one process; set nodes=1 and tasks_per_node=1 there"
            )
        if 0 < resources.gpus_per_node < resources.tasks_per_node:
            raise ClusterError(
                f"cluster.steps.{step.kind} asks for {resources.tasks_per_node} tasks of a node and for "
                f"{resources.gpus_per_node} of its GPUs, and each task takes one; set both to the same number"
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
    number: int
    code: Path
    waiting: InFlight
    bad_nodes: list[str]
    new: list[Record] = field(default_factory=list)
    checks: list[SiteCheck] = field(default_factory=list)
    user: str | None = None  # whose jobs they are, as SLURM says of the first

    def add_checks(self, steps: Sequence[Step], anew: bool = False) -> None:
        """Add the site checks of these steps, as far as they have not passed and are not in flight."""
        self.checks = site_checks(self.sweep, self.cluster, self.code, steps, anew)
        for check in self.checks:
            if not check.is_done and identity(check) not in self.waiting:
                check.folder.mkdir(parents=True, exist_ok=True)
                self.add(Batch((check,)), (), "afterok")

    def checks_of_the_sweep(self, records: Sequence[Record], before: Mapping[str, Record]) -> list[ManifestStep]:
        """What `status` shows of checks: those of this submission, and those that jobs in flight hang on."""
        checks = {identity(check): ManifestStep.of(check) for check in self.checks}
        needed = {step for record in before.values() for step in record.needs}
        for record in records:
            if record.kind == KIND and record.steps[0] in needed:
                (step,), (label,), (folder,) = record.steps, record.labels, record.folders
                checks.setdefault(step, ManifestStep(step, KIND, label, folder, str(Path(folder) / MARKER), []))
        return list(checks.values())

    def add_what_fits(self, batch: Batch) -> None:
        """Add a batch, in parts where the site lets this account queue only a part of it. Raises LimitReached."""
        try:
            self.add(batch, batch.needs, "afterok")
        except LimitReached:
            middle = len(batch.steps) // 2
            if not middle:
                raise
            self.add_what_fits(Batch(batch.steps[:middle]))
            self.add_what_fits(Batch(batch.steps[middle:]))

    def add(self, batch: Batch, needs: Sequence[Step], dependency: str) -> None:
        """Add a batch that leaves out the nodes that failed, where enough others have what it asks for."""
        try:
            self._add(batch, needs, dependency, self.bad_nodes)
        except NoNodeLeft as error:
            print(
                f"  {error}; so {batch.kind} jobs may take {', '.join(self.bad_nodes)}, which failed", file=sys.stderr
            )
            self._add(batch, needs, dependency, [])

    def _add(self, batch: Batch, needs: Sequence[Step], dependency: str, left_out: Sequence[str]) -> None:
        """Write what the job needs, then call sbatch. Its record is removed only if the site refuses the job.

        Every job also waits for the checks, which must end well; they do not wait for each other.
        """
        checks = [identity(check) for check in self.checks if batch.kind != KIND]
        waited_for = [step for step in checks if step in self.waiting]
        needed = [identity(step) for step in needs if identity(step) in self.waiting]
        depends_on = [self.waiting[step] for step in [*waited_for, *needed]]
        name = f"{batch.name}-{uuid.uuid4().hex[:6]}"
        folder = self.queue.new_batch_folder(name)
        cluster, first = self.cluster.without(left_out), batch.steps[0]
        if isinstance(first, SiteCheck):
            cluster = cluster.asking(KIND, first.resources)
        resources = cluster.resources(batch.kind)
        record = new_record(
            name,
            batch.kind,
            [(identity(step), step.label, step.folder.absolute()) for step in batch.steps],
            after=list(dict.fromkeys(record.name for record, _ in depends_on)),
            needs=[*waited_for, *needed] if dependency == "afterok" else waited_for,
            gpus=resources.gpus_per_node * resources.nodes,
            code=self.code.name,
            submission=self.number,
            user=self.user or "",
        )
        digest = self._payload(batch).write(folder)
        if batch.kind == KIND:
            write_bytes(folder / RESERVE, bytes(RESERVED_BYTES))
        awaited = self._dependency(waited_for, needed, dependency)
        program, environment = self.sweep.program, self.sweep.environment
        text = script_of(batch, name, folder, cluster, awaited, self.code, program, environment, digest)
        script = os.fsencode(text)  # a shell takes paths as the bytes that they are
        write_bytes(folder / "job.sh", script)
        self.queue.write(record)
        record = replace(record, job_id=self._submit(script, record, cluster))
        self.queue.write(record)
        if self.user is None:
            self.user = scheduler.user_of(str(record.job_id))
            record = replace(record, user=self.user)
            self.queue.write(record)
        self.new.append(record)
        self.waiting.update({step: (record, index) for index, step in enumerate(record.steps)})

    def _payload(self, batch: Batch) -> Payload:
        first = batch.steps[0]
        if isinstance(first, SiteCheck):
            return Payload.of_check(first, self.sweep.zero)
        return Payload.of(self.sweep, batch.steps, self.cluster.max_requeues)

    def _dependency(self, checks: Sequence[str], needed: Sequence[str], kind: str) -> str | None:
        """The option --dependency; with afterany the checks must end well all the same."""
        groups = {"afterok": [*checks, *needed]} if kind == "afterok" else {"afterok": checks, kind: needed}
        options = [dependency_of([self.waiting[step] for step in steps], word) for word, steps in groups.items()]
        return ",".join(filter(None, options)) or None

    def last_is_due(self) -> bool:
        """Whether the sweep's last step needs a new job: none is in flight that waits for all that is."""
        job, upstream = self.waiting.get(identity(self.sweep.last)), self._upstream()
        if job is not None:
            return not upstream <= set(job[0].after)
        return bool(upstream) or not self.sweep.last.is_done

    def _upstream(self) -> set[str]:
        """The jobs that the last step has to wait for."""
        steps = map(identity, self.sweep.steps[:-1])
        return {self.waiting[step][0].name for step in steps if step in self.waiting}

    def add_last(self) -> None:
        """Add the sweep's last step, which waits for all others, in place of a job that does not wait for them all."""
        *others, last = self.sweep.steps
        job = self.waiting.pop(identity(last), None)
        if job is not None:
            _cancel([job[0]])
        self.add(Batch((last,)), others, "afterany")

    def _submit(self, script: bytes, record: Record, cluster: Cluster) -> str:
        """The id of the new job. Raises ClusterError, which says what to do next."""
        try:
            return sbatch(script, record.name, record.user)
        except Unanswered as error:  # the job may be in the queue; the next submission asks for its name
            advice = f"{advice_on(str(error), cluster)}run again later: what was submitted is found, nothing is lost"
            raise Unanswered(f"{error}; {advice}") from error
        except ClusterError as error:
            self.queue.forget(record)
            if cluster.exclude != self.cluster.exclude and lacks_nodes(str(error)):
                shutil.rmtree(self.queue.batch_folder(record.name))
                raise NoNodeLeft(str(error)) from error
            if limit := limit_in(str(error)):
                shutil.rmtree(self.queue.batch_folder(record.name))
                raise LimitReached(limit) from error
            advice = advice_on(str(error), cluster)
            raise ClusterError(f"{error}; {advice}nothing of what was submitted before is lost") from error
