"""The site check by itself: submit it, wait for it, show its report.

in:  a sweep, the site
out: a table with a row per node; ClusterError with what is wrong
"""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from hpc.jobs.check_report import COLUMNS, Report, rows
from hpc.jobs.cluster import Cluster
from hpc.jobs.command import poll_s
from hpc.jobs.graph import identity
from hpc.jobs.preview import WIDTH
from hpc.jobs.site_check import SiteCheck
from hpc.jobs.state import State
from hpc.jobs.status import watch
from hpc.jobs.submission import submit
from hpc.jobs.sweep import Sweep
from hpc.jobs.waiting import failed_checks, refuse


def check_alone(sweep: Sweep, site: Cluster) -> None:
    """Submit the site check, wait for it, and print its report. Raises ClusterError with what is wrong."""
    submitted = submit(sweep, site, only_check=True)
    checks = {identity(check): check for check in submitted.checks}
    for record in submitted.new:
        print(f"  {record.kind} {record.labels[0]}: job {record.job_id}", flush=True)
    before = ""
    for overview in watch(sweep.last.folder, poll_s()):
        steps = [step for step in overview.steps if step.identity in checks]
        line = ", ".join(f"{step.label} {step.state} {step.reason}".strip() for step in steps)
        going_on = {State.PENDING, State.RUNNING, *([State.UNKNOWN] if overview.silence else [])}
        if line == before and not any(step.state in going_on for step in steps):
            break  # looked at twice, since a marker may take a moment to become visible here
        if line != before:
            print(f"  {line}", flush=True)
        before = line
    for check in checks.values():
        show_report(check)
    refuse([step for step in failed_checks(overview) if step.identity in checks])
    print("the site has what this sweep needs; that counts for a day")


def show_report(check: SiteCheck) -> None:
    """Print a row per node."""
    report = Report.read(check.folder)
    if report is None:
        return
    table = Table(*COLUMNS, title=report.label, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    for row in rows(report):
        table.add_row(*row)
    Console(highlight=False, soft_wrap=True, markup=False, width=WIDTH).print(table)
