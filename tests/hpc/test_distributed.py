"""Where ranks are, and where they meet."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hpc.errors import ClusterError
from hpc.ranks.placement import Placement
from hpc.ranks.probes import meet
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


STEP = {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_ID": "0"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "4", "SLURM_NPROCS": "4", "SLURM_NNODES": "2"},  # a shell of salloc
        STEP | {"SLURM_STEP_NUM_TASKS": "1"},  # srun --pty of one task in a job of four
        {"SLURM_PROCID": "0", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "1"},
        {"WORLD_SIZE": "1"},
        {"RANK": "0"},
        {"WORLD_SIZE": "", "RANK": " "},
        {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": ""},
        {"MASTER_PORT": "abc"},
        {"MASTER_PORT": "99999", "WORLD_SIZE": "1", "RANK": "0"},
        {"SLURM_JOB_ID": "", "SLURM_PROCID": "", "SLURM_STEP_ID": ""},
    ],
)
def test_what_says_nothing_of_other_processes_is_a_single_process(environment: dict[str, str]) -> None:
    assert Placement.from_environment(environment) == Placement(0, 1, 0, "127.0.0.1", 0)


@pytest.mark.parametrize("left_over", [{"WORLD_SIZE": "1"}, {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}])
def test_a_step_counts_where_a_single_process_left_its_variables(left_over: dict[str, str]) -> None:
    placement = Placement.from_environment(STEP | left_over | {"SLURM_PROCID": "2", "SLURM_LOCALID": "1"})
    assert (placement.rank, placement.size, placement.local_rank) == (2, 4, 1)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 speaks of several processes, and RANK is not set"),
        ({"WORLD_SIZE": "2", "RANK": ""}, "WORLD_SIZE=2 speaks of several processes, and RANK is not set"),
        ({"RANK": "1"}, "RANK=1 speaks of several processes, and WORLD_SIZE is not set"),
        ({"WORLD_SIZE": "two", "RANK": "0"}, "WORLD_SIZE=two is no whole number"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "RANK=-1 is no whole number"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "rank 2 of 2, which are counted from 0"),
        ({"WORLD_SIZE": "0", "RANK": "0"}, "rank 0 of 0"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "abc"}, "MASTER_PORT=abc is no whole number"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "70000"}, "MASTER_PORT=70000 is no port"),
        (STEP | {"SLURM_JOB_ID": "x"}, "SLURM_JOB_ID=x is no whole number"),
    ],
)
def test_what_contradicts_itself_is_one_line(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ClusterError, match=message) as caught:
        Placement.from_environment(environment)
    assert "\n" not in str(caught.value)


def test_what_ranks_cannot_do_is_refused_before_a_zoo_is_trained(program: Program, tmp_path: Path) -> None:
    """In the words of a single line, on rank 0 as on all others."""
    ranks = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1"}
    line = error_line(program("run", *TINY, **ranks))
    assert "zero=none is for one process, and 2 were started; set zero=stage1, 2 or 3, or start one" in line
    line = error_line(
        program(
            "run", *TINY, "zero=stage2", "recipe.inject.contexts_per_step=2", "recipe.tune.contexts_per_step=3", **ranks
        )
    )
    assert "recipe.tune.contexts_per_step=3 cannot be shared by 2 ranks; set it to a multiple of 2" in line
    assert not list(tmp_path.glob("runs/*/*"))


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
        process = program("run", *TINY, "zero=stage3_offload", **meeting)
    assert "is in use; set another one, cluster.environment.MASTER_PORT" in error_line(process)


def test_a_rank_that_does_not_reach_the_first_says_so_itself() -> None:
    """Rank 0 could only say that somebody is missing. torch's own limit is not exact: a rank may outlast the patience
    of rank 0, which then reports without it."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens there
        port = closed.getsockname()[1]
        with pytest.raises(ClusterError, match=f"does not reach rank 0 at 127.0.0.1:{port} within 1 s; let the nodes"):
            meet(Placement(1, 2, 1, "127.0.0.1", port), has_gpus=False, timeout_s=1)
