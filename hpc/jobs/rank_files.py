"""What the ranks of a site check tell each other, through files in the batch's folder.

in:  rank-START-RANK.json of each rank, rank-START-RANK.begun of its shell, the log
out: who has begun or failed; whether all are ready, or have ended
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from hpc.jobs import check_report
from hpc.jobs.check_report import Phase, RankReport
from hpc.ranks.placement import Placement


@dataclass(frozen=True)
class RankFiles:
    """The files as this rank sees them; of itself it knows more than its file says."""

    folder: Path
    placement: Placement

    def path(self, rank: int, ending: str) -> Path:
        """A file of a rank: json is its report, begun is made by its shell."""
        start = os.environ.get("SLURM_RESTART_COUNT", "0")  # a job that is put back begins anew
        return self.folder / f"rank-{start}-{rank}.{ending}"

    def has_begun(self, rank: int) -> bool:
        """Its shell has written."""
        return self.path(rank, "begun").exists()

    def said(self) -> dict[int, tuple[str, str]]:
        """By rank, the node and the error that its log has."""
        job = os.environ.get("SLURM_JOB_ID")
        return check_report.said(self.folder / f"{job}_0_log.out") if job else {}

    def reports(self, here: RankReport) -> dict[int, RankReport]:
        """Of all ranks that have told anything; `here` is that of this one."""
        paths = {rank: self.path(rank, "json") for rank in range(self.placement.size)}
        values = {rank: json.loads(path.read_bytes()) for rank, path in paths.items() if path.exists()}
        return {rank: RankReport.of(value) for rank, value in values.items()} | {here.rank: here}

    def failed(self, here: RankReport) -> set[int]:
        """The ranks with an error, and those that have not begun."""
        absent = {rank for rank in range(self.placement.size) if rank != here.rank and not self.has_begun(rank)}
        return absent | {rank for rank, report in self.reports(here).items() if report.error} | set(self.said())

    def all_are_ready(self, here: RankReport) -> bool:
        """Every rank has passed all that each does by itself."""
        reports = self.reports(here).values()
        return sum(Phase.gpus in report.seconds for report in reports) == self.placement.size

    def all_have_ended(self, here: RankReport) -> bool:
        """No rank does any more."""
        ended = {rank for rank, report in self.reports(here).items() if report.has_ended} | set(self.said())
        return len(ended) == self.placement.size
