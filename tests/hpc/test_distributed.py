"""Where ranks are, and where they meet."""

from __future__ import annotations

import socket

from hpc.ranks.distributed import Placement
from tests.conftest import TINY, Program, error_line


def test_ranks_are_found_in_the_environment() -> None:
    srun = {"SLURM_PROCID": "3", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "7"}
    placement = Placement.from_environment(srun | {"SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1"})
    assert (placement.rank, placement.size, placement.local_rank, placement.address, placement.port) == (
        3,
        4,
        1,
        "10.0.0.1",
        20007,
    )
    assert (
        Placement.from_environment({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}).size == 1
    )  # in a batch script, outside of srun


def test_a_port_in_use_is_named(program: Program) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        meeting = {
            "RANK": "0",
            "WORLD_SIZE": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(taken.getsockname()[1]),
        }
        process = program("run", *TINY, "zero=stage2", **meeting)
    assert "is in use; set another one, +cluster.environment.MASTER_PORT" in error_line(process)
