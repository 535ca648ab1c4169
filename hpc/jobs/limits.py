"""How much a site lets a user queue.

in:  what scontrol and sbatch say
out: the largest array; whether a job was refused only because too many are in the queue, or because too few nodes are
     left
"""

from __future__ import annotations

import re

from hpc.errors import ClusterError
from hpc.jobs.command import ask


class LimitReached(ClusterError):
    """The site lets this account queue no more jobs now. Every task of an array counts."""


class NoNodeLeft(ClusterError):
    """Without the nodes that are left out, too few have what the job asks for."""


def lacks_nodes(message: str) -> bool:
    """Whether sbatch refused a job with this message because too few of the nodes that it may take can run it."""
    return bool(
        re.search(r"configuration (is )?not available|node count specification invalid", message, re.IGNORECASE)
    )


def limit_in(message: str) -> str:
    """The limit for which sbatch refused a job with this message, such as AssocMaxSubmitJobLimit; empty: another cause.

    QOSMaxSubmitJobPerUserLimit is a longer one.
    """
    limit = re.search(r"\b(Assoc|QOS)\w*Submit\w*Limit\b", message)
    return limit[0] if limit else ""


def largest_array(wanted: int) -> int:
    """The number of tasks that one array may have: `wanted`, or SLURM's MaxArraySize where that is less.

    Where scontrol does not say, `wanted`: sbatch itself refuses an array that is too large.
    """
    try:
        config = ask(["scontrol", "show", "config"], attempts=1)
    except ClusterError:
        return wanted
    limit = re.search(r"^MaxArraySize\s*=\s*(\d+)", config, flags=re.MULTILINE)
    return max(1, min(wanted, int(limit[1]))) if limit else wanted
