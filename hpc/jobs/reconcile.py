"""What earlier submissions left in the queue, and which of their jobs can be relied on.

in:  the records under a root, the states of their jobs, the steps of a sweep
out: steps that are in flight, jobs that can never run, nodes to avoid
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from hpc.errors import ClusterError, Unanswered
from hpc.jobs import scheduler
from hpc.jobs.attempts import STOPPED, attempts_of
from hpc.jobs.command import cluster, speaking_of
from hpc.jobs.queue import Queue, Record, states_of

REMEMBERED_S = 24 * 3600.0  # a node that failed earlier may be well again
InFlight = dict[str, tuple[Record, int]]  # by step identity: the job that waits or runs for it, and its index there


def require_nothing_elsewhere(records: Sequence[Record], known: scheduler.States, missing: Collection[str]) -> None:
    """Raises ClusterError where a job of one of these steps waits or runs on another cluster than the one meant now.

    squeue does not list it here, so its step would be done twice. `known` is what it lists: a cluster may have a name
    now, and none when the job was submitted.
    """
    here = cluster()
    elsewhere = [
        record
        for record in records
        if record.cluster != here and record.name not in known and set(record.steps) & set(missing)
    ]
    for name in sorted({record.cluster for record in elsewhere}):
        there = [record for record in elsewhere if record.cluster == name]
        listed = _listed_on(name, there)
        for record in there:
            if any(task.may_go_on for task in listed.get(record.name, [])):
                to_do = f"set SLURM_CLUSTERS={name}" if name else "unset SLURM_CLUSTERS"
                raise ClusterError(
                    f"the job {record.name} waits or runs on {name or 'the cluster of this machine'}, and "
                    f"SLURM_CLUSTERS={here!r} speaks of another; {to_do} to go on there, or cancel it there"
                )


def _listed_on(name: str, records: Sequence[Record]) -> scheduler.States:
    """What squeue says of these batches on a cluster. Raises ClusterError, also where there is no such cluster."""
    with speaking_of(name):
        try:
            return states_of(records)
        except Unanswered:
            raise
        except ClusterError as error:
            batches = ", ".join(record.name for record in records)
            where = f"the cluster {name!r}" if name else "the cluster of this machine"
            raise ClusterError(
                f"jobs of this sweep were submitted to {where}, of which SLURM says: {error}; if it is gone, delete "
                f"their folders in root/queue: {batches}"
            ) from error


def in_flight(queue: Queue, records: Sequence[Record], known: scheduler.States) -> InFlight:
    """The steps that wait or run. Raises ClusterError where a note of a job is broken."""
    return {
        step: (record, index)
        for record in records
        for step, task in record.states(known).items()
        if task.is_active and not _has_failed(queue, record, index := record.steps.index(step), task)
    }


def _has_failed(queue: Queue, record: Record, index: int, task: scheduler.TaskState) -> bool:
    """The step has failed by its own note, and only the end of its job takes long: a node's epilog that hangs."""
    if task.state != "COMPLETING":
        return False
    attempts = attempts_of(queue.batch_folder(record.name), index)
    return bool(attempts) and attempts[-1].exit_status not in (None, 0, STOPPED)


def take_out_hopeless(
    waiting: InFlight, known: scheduler.States, done: Collection[str], identities: Collection[str]
) -> list[Record]:
    """Remove from `waiting` those of these steps that wait for a job which ended without doing what they need.

    Returns their jobs. A job that already runs is kept: it has what it needs, even if the marker of that is not visible
    from this machine yet.
    """
    hopeless: list[Record] = []
    while True:
        jobs = {record.name: record for step, (record, _) in waiting.items() if step in identities}
        more = {
            name: record
            for name, record in jobs.items()
            if all(task.state in scheduler.PENDING for task in record.states(known).values())
            and any(
                needed not in done and (needed not in waiting or waiting[needed][0].name not in record.after)
                for needed in record.needs
            )
        }
        if not more:
            return hopeless
        hopeless += more.values()
        for step in [step for step, (record, _) in waiting.items() if record.name in more]:
            del waiting[step]


def stuck(records: Sequence[Record], known: scheduler.States, identities: Collection[str]) -> list[Record]:
    """The jobs of these steps that wait for a failed one and would wait for ever."""
    return [
        record
        for record in records
        if set(identities) & set(record.steps) and any(task.is_stuck for task in record.states(known).values())
    ]


def failed_nodes(
    queue: Queue, records: Sequence[Record], known: scheduler.States, missing: Collection[str]
) -> list[str]:
    """Nodes that failed when one of these steps was last tried, within a day, as far as squeue or accounting remember.

    Never all nodes of the site: then none is returned.
    """
    indices = dict[str, set[int]]()  # of those steps in the newest job of each
    newest = {step: record for record in records for step in record.steps if step in missing}
    for step, record in newest.items():
        indices.setdefault(record.name, set()).add(record.steps.index(step))
    jobs = {record.name: record for record in newest.values()}
    remembered = scheduler.history(str(record.job_id) for record in jobs.values())
    failed = {
        task.node
        for record in jobs.values()
        for task in [*record.states(known).values(), *remembered.get(record.name, [])]
        if task.state in scheduler.NODE_FAILURE
        and (task.index is None or task.index in indices[record.name])
        and time.time() - _last_sign(queue, record, task.index or 0) < REMEMBERED_S
    }
    site = scheduler.nodes() if failed else set()
    return sorted(failed & site) if site - failed else []


def _last_sign(queue: Queue, record: Record, index: int) -> float:
    """When a step was last heard of, in seconds since the epoch."""
    attempts = attempts_of(queue.batch_folder(record.name), index)
    return attempts[-1].ended if attempts else record.submitted
