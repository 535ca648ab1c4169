"""The state of a step, and the reason for it.

in:  a step of the manifest, its records, and what squeue and accounting say
out: a State, with a reason in words; for a failed one also what to change

    done      its marker exists
    running, pending (reason)   squeue says so
    failed (reason)             it was submitted, is over and not done; SLURM or the job's own notes know why
    missing                     it was never submitted
    unknown                     it is over, and nobody knows how; or the scheduler, which knows, does not answer
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hpc.jobs import scheduler, unheard
from hpc.jobs.attempts import Attempt
from hpc.jobs.check_report import said
from hpc.jobs.logs import last_lines
from hpc.jobs.queue import Record
from hpc.jobs.script import log_path
from hpc.jobs.site_check import KIND as CHECK
from hpc.jobs.state import State
from hpc.jobs.sweep import ManifestStep
from hpc.jobs.view import QueueView

# Why jobs end, by SLURM's word for it.
REASONS = {
    "OUT_OF_MEMORY": "out of memory: raise cluster.steps.{kind}.mem_gb",
    "TIMEOUT": "out of time: raise cluster.steps.{kind}.timeout_min",
    "NODE_FAIL": "{node} failed; run again leaves it out",
    "BOOT_FAIL": "{node} did not boot; run again leaves it out",
    "DEADLINE": "its deadline passed",
    "PREEMPTED": "preempted, and not put back into the queue",
}
SEVERAL_NODES = "one of {node} failed; run again takes those that are up"
NEVER_RAN = "cancelled: what it needs failed, or by hand"
NEEDS_FAILED = "what it needs failed"
WAITING = "waiting: "  # how a step begins the line of its log that says which other process it waits for
ERROR = "error: "  # how a line of a log begins that says what is wrong
OUT_OF_MEMORY_MESSAGES = ("oom_kill", "oom-kill", "exceeded memory limit")


def state_of(step: ManifestStep, records: Sequence[Record], view: QueueView) -> tuple[State, str]:
    """The state and its reason. `records` are those of the step, the oldest first."""
    if step.is_done:
        return State.DONE, ""
    record, answer = records[-1], view.answer
    index, task = view.index(record, step.identity), view.task(record, step.identity)
    accounted = [past for past in answer.ended.get(record.name, []) if past.index in (index, None)]
    last = accounted[-1] if accounted else task
    if answer.silence and (last is None or last.may_go_on):
        return unheard.state_of(record, step.identity, view)
    if task is not None and task.is_stuck:
        return State.FAILED, view.queue.cancel_reason(record) or NEEDS_FAILED
    if task is not None and task.is_active and not answer.silence:
        if task.state in scheduler.PENDING:
            return State.PENDING, task.reason
        awaited = _awaited(log_path(record, view.queue.batch_folder(record.name), index))
        return State.RUNNING, ", ".join(filter(None, [task.node, awaited]))
    if last is not None and last.may_go_on:
        return State.UNKNOWN, f"accounting says {last.state}, and squeue does not list it"
    return _how_it_ended(step, record, last, view)


def _how_it_ended(
    step: ManifestStep, record: Record, last: scheduler.TaskState | None, view: QueueView
) -> tuple[State, str]:
    """Of a step that is over and not done: SLURM's reason if it has one, else that of the job's own notes."""
    word, node = (last.state, last.node) if last is not None else ("", "")
    folder = view.queue.batch_folder(record.name)
    log = log_path(record, folder, view.index(record, step.identity))
    attempts = view.attempts(record, step.identity)
    if word in REASONS:
        is_several = word in scheduler.NODE_FAILURE and bool(re.search(r"[\[,]", node))
        reason = SEVERAL_NODES if is_several else REASONS[word]
        return State.FAILED, reason.format(kind=step.kind, node=node)
    if attempts and attempts[-1].exit_status is not None:
        return State.FAILED, attempts[-1].message
    printed = said(log) if step.kind == CHECK else {}
    if printed:  # by ranks whose rank 0 could not sum it up
        return State.FAILED, "; ".join(dict.fromkeys(f"{node}: {problem}" for node, problem in printed.values()))
    if word != "COMPLETED" and _log_shows_out_of_memory(log):
        return State.FAILED, REASONS["OUT_OF_MEMORY"].format(kind=step.kind)
    if word == "CANCELLED":
        return State.FAILED, view.queue.cancel_reason(record) or ("cancelled" if attempts else NEVER_RAN)
    return _without_a_reason(word, node, log, attempts)


def _without_a_reason(word: str, node: str, log: Path, attempts: Sequence[Attempt]) -> tuple[State, str]:
    """Of a step that neither SLURM nor its own notes explain."""
    if word and not attempts:
        errors = [line.removeprefix(ERROR) for line in last_lines(log) if line.startswith(ERROR)]
        if errors:  # of its script, before Python
            return State.FAILED, errors[-1]
        return State.FAILED, f"{word} before it began: does {node or 'its node'} see {log.parent}, and this Python?"
    if word:
        return State.FAILED, f"the scheduler says {word}; see its log"
    return State.UNKNOWN, "over, and neither its marker nor the scheduler says how"


def _awaited(log: Path) -> str:
    """The last line of a running step's log where that says what it waits for; empty where it works."""
    *_, last = ["", *last_lines(log)]
    return last.strip() if last.strip().startswith(WAITING) else ""


def _log_shows_out_of_memory(log: Path) -> bool:
    """SLURM writes it to the log even at sites where the job's state does not say so."""
    return any(message in line for line in last_lines(log) for message in OUT_OF_MEMORY_MESSAGES)


def setting_to_raise(kind: str, reason: str) -> str:
    """The setting that a failed step of this kind got too little of; empty where the reason is another one."""
    for words, name in (("out of memory", "mem_gb"), ("out of time", "timeout_min")):
        if reason.startswith(words):
            return f"cluster.steps.{kind}.{name}"
    return ""
