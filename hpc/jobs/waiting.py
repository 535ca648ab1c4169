"""A command that stays until its sweep is over.

in:  a submitted sweep, of which the site may have taken only a part
out: lines about what changes; the rest is submitted as soon as the site takes it

A controller that does not answer for a while ends nothing: the next look at the queue asks it again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from hpc.errors import ClusterError, Unanswered
from hpc.jobs import scheduler
from hpc.jobs.cluster import Cluster
from hpc.jobs.command import poll_s
from hpc.jobs.site_check import KIND
from hpc.jobs.state import State
from hpc.jobs.status import Overview, StepStatus, watch
from hpc.jobs.submission import Submitted, submit
from hpc.jobs.sweep import Sweep


def wait_until_over(sweep: Sweep, cluster: Cluster, submitted: Submitted) -> None:
    """Return when the last step has ended.

    Raises ClusterError for a site check that failed, nothing for other steps, which are not tried again.
    """
    waves = Waves(sweep, cluster, submitted)
    while True:
        before, failed = "", list[StepStatus]()
        for overview in watch(sweep.last.folder, poll_s()):
            if failed and failed == failed_checks(overview):  # twice: its marker may become visible late
                refuse(failed)
            failed = failed_checks(overview)
            if not overview.is_over and not overview.silence:
                _cancel_stuck(overview)
            if overview.line() != before:
                before = overview.line()
                print(f"  {before}", flush=True)
                waves.go_on(overview)
        if overview.steps[-1].state == State.DONE or not waves.go_on(overview):
            return


def _cancel_stuck(overview: Overview) -> None:
    """Take out of the queue what would wait for ever, and the last step behind it with it."""
    try:
        scheduler.cancel(overview.stuck)
    except Unanswered as error:
        print(f"  {error}; asking again", file=sys.stderr, flush=True)


def failed_checks(overview: Overview) -> list[StepStatus]:
    """The site checks that have failed. While the scheduler is silent, one of unknown state may only wait."""
    failed = {State.FAILED} if overview.silence else {State.FAILED, State.UNKNOWN}
    return [step for step in overview.steps if step.kind == KIND and step.state in failed]


def refuse(checks: Sequence[StepStatus]) -> None:
    """Raises ClusterError with what is wrong, if there is a failed check."""
    if checks:
        reasons = "; ".join(f"{step.reason or step.state} ({step.identity}, log {step.log})" for step in checks)
        raise ClusterError(f"the site check failed: {reasons}")


class Waves:
    """A sweep that the site takes in parts."""

    def __init__(self, sweep: Sweep, cluster: Cluster, submitted: Submitted) -> None:
        self.sweep, self.cluster = sweep, cluster
        self.is_needed = bool(submitted.refusal)
        self.tried = {step for record in submitted.new for step in record.steps} | set(submitted.in_flight)
        if submitted.refusal:
            print(f"  the site takes no more jobs now ({submitted.refusal}); the rest follows when jobs have ended")

    def go_on(self, overview: Overview) -> bool:
        """Submit what the site takes now. Returns whether there is something to wait for."""
        if not self.is_needed or overview.silence:
            return self.is_needed
        try:
            submitted = submit(self.sweep, self.cluster, self.tried)
        except Unanswered as error:
            print(f"  {error}; asking again", file=sys.stderr, flush=True)
            return True
        new = {step for record in submitted.new for step in record.steps}
        self.tried |= new | set(submitted.in_flight)  # of a submission that broke off, too
        if new:
            print(f"  {len(new)} more steps submitted", flush=True)
        elif submitted.refusal:  # by now the jobs in its way are those of other sweeps
            time.sleep(poll_s())
        return bool(new or submitted.refusal)
