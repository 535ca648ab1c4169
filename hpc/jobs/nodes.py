"""The names of a job's nodes, as SLURM calls them.

in:  the variables of the job that this process is in
out: the name of the node of a rank
"""

from __future__ import annotations

import os
import subprocess


def node_of(rank: int, tasks_per_node: int) -> str:
    """The node of another rank of this job, as far as SLURM tells it."""
    command = ["scontrol", "show", "hostnames", os.environ.get("SLURM_JOB_NODELIST", "")]
    try:
        names = subprocess.run(command, capture_output=True, encoding="utf-8", check=False).stdout.split()
    except FileNotFoundError:
        names = []
    index = rank // tasks_per_node
    return names[index] if index < len(names) else f"node {index + 1}"
