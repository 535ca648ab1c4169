"""What is known of the ranks of a site check, and what is wrong, in one line.

in:  a report of each rank, and the errors that their shells have printed
out: the problems of all ranks, the first cause first; report.json; a table
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from hpc.jobs.files import read_json, write_json
from hpc.jobs.logs import last_lines
from hpc.ranks.probes import Gpu
from hpc.types import require_types

FILE = "report.json"
MOST_PROBLEMS = 4  # in one line
LEAST_SHOWN_S = 0.1  # of a phase
MOST_BYTES_SAID = 4_000_000  # a line of each of 20,000 ranks


class Phase(StrEnum):
    """Of a check, in order."""

    begin = "begin"  # the shell before Python
    root = "root"
    versions = "versions"
    code = "code"
    gpus = "gpus"
    waiting = "waiting"  # for the other ranks
    meeting = "meeting"
    inputs = "inputs"
    over = "over"


@dataclass(frozen=True)
class RankReport:
    """What is known of a rank."""

    rank: int
    node: str
    phase: Phase  # that it stands in, or has failed in
    versions: dict[str, str] = field(default_factory=dict)
    gpus: tuple[Gpu, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)  # by phase
    error: str = ""

    @property
    def has_ended(self) -> bool:
        """It does no more."""
        return bool(self.error) or self.phase == Phase.over

    @staticmethod
    def of(values: dict[str, Any]) -> RankReport:
        """From what JSON holds."""
        gpus = tuple(Gpu(**gpu) for gpu in values["gpus"])
        return RankReport(**{**values, "phase": Phase(values["phase"]), "gpus": gpus})


@dataclass(frozen=True)
class Report:
    """A whole check."""

    label: str  # the node type
    finished: float  # seconds since the epoch
    problem: str  # empty if it has passed
    ranks: list[RankReport]

    def write(self, folder: Path) -> None:
        """Into the check's folder."""
        write_json(folder / FILE, asdict(self))

    @staticmethod
    def read(folder: Path) -> Report | None:
        """That in a check's folder; None if there is none. Raises ClusterError where it is broken."""
        if not (folder / FILE).exists():
            return None

        def report(values: Any) -> Report:
            made = Report(**{**values, "ranks": [RankReport.of(rank) for rank in values["ranks"]]})
            for item in (made, *made.ranks):
                require_types(item)
            return made

        return read_json(folder / FILE, report, f"delete the folder {folder}, and submit again")


def said(log: Path) -> dict[int, tuple[str, str]]:
    """By rank, the node and the error that it has printed; srun puts the rank before every line of the log."""
    printed: dict[int, tuple[str, str]] = {}
    for line in last_lines(log, MOST_BYTES_SAID):
        rank, is_error, message = line.lstrip().partition(": error: ")
        node, _, text = message.partition(": ")
        if is_error and rank.isdecimal():
            printed.setdefault(int(rank), (node, text))
    return printed


def problem_of(reports: Sequence[RankReport]) -> str:
    """What is wrong on all ranks, the first cause first; empty if nothing is.

    Equal problems are said once, for all nodes. Of ranks that do not meet, rank 0 knows only that some are missing.
    """
    failed = sorted(
        (report for report in reports if report.error),
        key=lambda report: (list(Phase).index(report.phase), report.rank == 0, report.rank),
    )
    if len(failed) > 1 and (failed[-1].rank, failed[-1].phase) == (0, Phase.meeting):
        del failed[-1]
    nodes: dict[str, list[str]] = {}
    for report in failed:
        nodes.setdefault(report.error, []).append(report.node)
    problems = [f"{', '.join(dict.fromkeys(names))}: {error}" for error, names in nodes.items()]
    more = len(problems) - MOST_PROBLEMS
    return "; ".join(problems[:MOST_PROBLEMS]) + (f"; and {more} more in its log" if more > 0 else "")


def unseen_gpus(reports: Sequence[RankReport], per_node: int) -> str:
    """What is wrong if the ranks of a node see the same GPUs and not all of them; else empty."""
    by_node: dict[str, set[str]] = {}
    for report in reports:
        by_node.setdefault(report.node, set()).update(gpu.uuid for gpu in report.gpus)
    counts = {node: len(gpus) for node, gpus in by_node.items() if len(gpus) < per_node}
    short = "; ".join(f"{node}: its ranks see {count} of {per_node} GPUs" for node, count in counts.items())
    return f"{short}; mend how the site binds GPUs to tasks" if short else ""


def rows(report: Report) -> list[tuple[str, ...]]:
    """A row per node: its name, its ranks, its GPUs, two versions, the seconds of each phase, and where it failed."""
    by_node: dict[str, list[RankReport]] = {}
    for rank in report.ranks:
        by_node.setdefault(rank.node, []).append(rank)
    return [_row(node, ranks) for node, ranks in by_node.items()]


COLUMNS = ("node", "ranks", "GPUs", "versions", "seconds", "")


def _row(node: str, ranks: Sequence[RankReport]) -> tuple[str, ...]:
    gpus = {gpu.uuid: f"{gpu.name} {gpu.memory_gb:.0f} GB" for rank in ranks for gpu in rank.gpus}
    names = list(gpus.values())
    longest = {
        phase: max(rank.seconds.get(phase, 0.0) for rank in ranks)
        for phase in Phase
        if any(phase in rank.seconds for rank in ranks)
    }
    return (
        node,
        str(len(ranks)),
        ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names)) or "none",
        ", ".join(f"{name} {ranks[0].versions[name]}" for name in list(ranks[0].versions)[:2]),
        ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in longest.items() if seconds >= LEAST_SHOWN_S),
        next((f"failed: {rank.phase}" for rank in ranks if rank.error), "ok"),
    )
