"""Which rank this process is, and where the ranks meet.

in:  the environment of this process: SLURM_PROCID and SLURM_NTASKS of srun, or RANK and WORLD_SIZE of torchrun
out: a Placement

Such variables also linger where no ranks are: in a shell of salloc, in a container, after a debugging session. What
says nothing of other processes is ignored.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from hpc.errors import ClusterError

FIRST_PORT, NUM_PORTS = 20_000, 12_000  # below the ports that the system assigns by itself
LAST_PORT = 65_535


@dataclass(frozen=True)
class Placement:
    """The rank of this process among all, and where they meet."""

    rank: int
    size: int  # number of ranks
    local_rank: int  # on this node
    address: str
    port: int  # 0 for a single process: any free one
    has_store: bool = False  # torchrun's own process keeps the store there

    @staticmethod
    def from_environment(environment: Mapping[str, str]) -> Placement:
        """What torchrun or srun say; else a single process.

        Raises ClusterError for variables that speak of several processes and contradict each other.
        """
        e = {name: value for name, value in environment.items() if value.strip()}
        is_step = "SLURM_PROCID" in e and "SLURM_STEP_ID" in e
        if "WORLD_SIZE" in e and "RANK" in e and not (is_step and _number(e, "WORLD_SIZE") == 1):
            rank, size, local = _number(e, "RANK"), _number(e, "WORLD_SIZE"), _number(e, "LOCAL_RANK", "0")
        elif is_step:
            in_step = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in e else "SLURM_NTASKS"  # the job may have more
            rank, size, local = _number(e, "SLURM_PROCID"), _number(e, in_step, "1"), _number(e, "SLURM_LOCALID", "0")
        else:
            _refuse_half(e)
            rank, size, local = 0, 1, 0
        if rank >= size:
            raise ClusterError(
                f"this process is rank {rank} of {size}, which are counted from 0; start the ranks with torchrun or "
                "srun, or unset RANK and WORLD_SIZE for a single process"
            )
        # srun is called on the first node, where rank 0 runs as well
        address = e.get("MASTER_ADDR") or e.get("SLURM_LAUNCH_NODE_IPADDR") or "127.0.0.1"
        return Placement(rank, size, local, address, _port(e, size), e.get("TORCHELASTIC_USE_AGENT_STORE") == "True")


def _refuse_half(environment: Mapping[str, str]) -> None:
    """Raises ClusterError where one of RANK and WORLD_SIZE speaks of several processes and the other is missing."""
    for name, other, alone in (("WORLD_SIZE", "RANK", 1), ("RANK", "WORLD_SIZE", 0)):
        if name in environment and _number(environment, name) != alone:
            raise ClusterError(
                f"{name}={environment[name]} speaks of several processes, and {other} is not set; start them with "
                f"torchrun or srun, or unset {name} for a single process"
            )


def _port(environment: Mapping[str, str], size: int) -> int:
    given = environment.get("MASTER_PORT")
    if size == 1:  # nobody else has to know it
        return int(given) if given is not None and given.isdecimal() and int(given) <= LAST_PORT else 0
    if given is None:
        return FIRST_PORT + _number(environment, "SLURM_JOB_ID", "0") % NUM_PORTS
    port = _number(environment, "MASTER_PORT")
    if not 0 < port <= LAST_PORT:
        raise ClusterError(f"MASTER_PORT={given} is no port; give one from 1 to {LAST_PORT}")
    return port


def _number(environment: Mapping[str, str], name: str, default: str | None = None) -> int:
    value = environment.get(name, default)
    assert value is not None
    if not value.strip().isdecimal():
        raise ClusterError(
            f"{name}={value} is no whole number; torchrun and srun set it; unset it to run a single process"
        )
    return int(value)


def node_here() -> str:
    """The name of this node, as SLURM calls it."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()
