"""What a site check is valid for, what its ranks do, and what is said of them. Broken sites are in tests/slurm."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import Event
from typing import Any

import pytest

import hpc
from hpc.errors import ClusterError
from hpc.jobs.check_report import Phase, RankReport, Report, problem_of, rows, said, unseen_gpus
from hpc.jobs.cluster import Cluster
from hpc.jobs.files import write_json
from hpc.jobs.graph import identity
from hpc.jobs.inspection import Rank, Station, inspect
from hpc.jobs.payload import Payload
from hpc.jobs.script import BEFORE_PYTHON
from hpc.jobs.site_check import SiteCheck, passed, site_checks, versions_here
from hpc.ranks.placement import Placement
from hpc.ranks.probes import Gpu
from hpc.ranks.zero import Zero
from neurogen.inputs import Inputs
from tests.hpc.conftest import PROGRAM, Composed, site, sweep_of
from tests.hpc.forked import free_port

CODE = Path("code/abc")
HPC = Path(hpc.__file__).parent


@cache
def here() -> Cluster:
    """conf/cluster/here.yaml"""
    return site()


def check_of(root: Path, **changes: Any) -> SiteCheck:
    """The check of a node without GPUs, whose inputs are nothing."""
    inputs = Inputs((), (), modules=())
    about = (HPC.parent, ("hpc",), versions_here(["torch"]), asdict(inputs))
    check = SiteCheck(root, "abc", 0, here().resources("tune"), *about)
    return dataclasses.replace(check, **changes)


def checked(check: SiteCheck, folder: Path) -> Report:
    """The report of a check whose only rank is this process. Raises ClusterError with what is wrong."""
    (folder / "rank-0-0.begun").touch()
    inspect(check, Station(Placement(0, 1, 0, "127.0.0.1", 0), folder, Event(), KeyboardInterrupt, PROGRAM))
    report = Report.read(check.folder)
    assert report is not None
    return report


@pytest.mark.parametrize(
    ("of_site", "of_sweep", "code", "is_same"),
    [
        ({"partition": "gpu"}, {}, CODE, False),
        ({"setup": ["module load cuda"]}, {}, CODE, False),
        ({"environment": {"HF_HOME": "/x"}}, {}, CODE, False),
        ({"steps": {"default": dataclasses.replace(here().resources("tune"), tasks_per_node=2)}}, {}, CODE, False),
        ({"steps": {"default": dataclasses.replace(here().resources("tune"), timeout_min=7)}}, {}, CODE, True),
        ({"array_parallelism": 7}, {}, CODE, True),
        ({}, {"inputs": {"modules": ["json"]}}, CODE, False),
        ({}, {"root": Path("elsewhere")}, CODE, False),
        ({}, {"libraries": ("torch", "numpy")}, CODE, False),
        ({}, {"commit": "def"}, CODE, True),
        ({}, {}, Path("code/def"), False),
    ],
)
def test_another_site_environment_or_input_is_another_check(
    experiment: Composed,
    tmp_path: Path,
    of_site: dict[str, Any],
    of_sweep: dict[str, Any],
    code: Path,
    is_same: bool,
) -> None:
    sweep = sweep_of(experiment, tmp_path)
    (check,) = site_checks(sweep, here(), CODE, sweep.steps)
    changed = dataclasses.replace(sweep, **of_sweep)
    (other,) = site_checks(changed, dataclasses.replace(here(), **of_site), code, sweep.steps)
    assert (other.key == check.key) == is_same


def test_it_counts_for_a_day(experiment: Composed, tmp_path: Path) -> None:
    """Afterwards it is another check, and jobs that hung on the first one still have what they need."""
    sweep = sweep_of(experiment, tmp_path)

    def current(anew: bool = False) -> SiteCheck:
        (check,) = site_checks(sweep, here(), CODE, sweep.steps, anew)
        return check

    first = current()
    first.folder.mkdir(parents=True)
    assert current(anew=True) == first  # it is under way
    first.marker.touch()
    assert current() == first
    assert current().is_done
    assert current(anew=True).key != first.key
    yesterday = time.time() - 25 * 3600
    os.utime(first.marker, (yesterday, yesterday))
    second = current()
    assert not second.is_done
    second.folder.mkdir()
    assert current() == second
    assert passed(tmp_path) == {identity(first)}


def test_every_node_type_is_checked_once_and_asks_for_little(experiment: Composed, tmp_path: Path) -> None:
    sweep = sweep_of(experiment, tmp_path)
    cluster = site("cluster=a100")
    tune = dataclasses.replace(cluster.resources("tune"), nodes=2, tasks_per_node=4, gpus_per_node=4)
    checks = site_checks(sweep, cluster.asking("tune", tune), CODE, sweep.steps)
    assert [check.label for check in checks] == ["1-node-1-gpu", "2-nodes-8-ranks-8-gpus", "1-node"]
    asked = [(check.resources.cpus_per_task, check.resources.mem_gb, check.resources.timeout_min) for check in checks]
    assert asked == [(2, 8, 10), (2, 32, 10), (2, 8, 10)]
    elsewhere = cluster.asking("evaluate", dataclasses.replace(cluster.resources("evaluate"), partition="cpu"))
    assert [check.resources.partition for check in site_checks(sweep, elsewhere, CODE, sweep.steps)] == [
        None,
        "cpu",
        None,
    ]
    given = dataclasses.replace(here().resources("check"), mem_gb=1.5, timeout_min=3)
    (check,) = site_checks(sweep, here().asking("check", given), CODE, sweep.steps)
    assert check.resources == given


def test_a_sound_node(tmp_path: Path) -> None:
    check = check_of(tmp_path)
    report = checked(check, tmp_path)
    assert check.is_done
    assert report.problem == ""
    assert list(report.ranks[0].seconds) == [phase for phase in Phase if phase not in (Phase.begin, Phase.over)]
    ((node, ranks, gpus, versions, _, state),) = rows(report)
    assert (node, ranks, gpus, state) == (os.uname().nodename, "1", "none", "ok")
    assert f"torch {version('torch')}" in versions


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # its traceback is in the log
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"versions": versions_here([]) | {"torch": "0.0.1"}},
            rf"has torch {re.escape(version('torch'))} \(submitted with 0.0.1\)",
        ),
        ({"code": Path("/nowhere")}, "imports hpc from .*, and not from the snapshot /nowhere"),
        ({"inputs": asdict(Inputs((), (), modules=("nowhere",)))}, "nowhere cannot be imported"),
        ({"inputs": asdict(Inputs((), (), modules=("this is no name",)))}, "this is no name cannot be imported"),
        ({"inputs": {"modules": "json"}}, "the inputs are not described as this code does it"),
    ],
)
def test_what_is_wrong_with_a_node_is_said(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    check = check_of(tmp_path, **changes)
    with pytest.raises(ClusterError, match=f"^{os.uname().nodename}: {message}"):
        checked(check, tmp_path)
    assert not check.is_done
    report = Report.read(check.folder)
    assert report is not None
    assert re.search(message, report.problem)


def test_what_is_wrong_is_said_though_no_report_can_be_written(tmp_path: Path) -> None:
    check = check_of(tmp_path, versions=versions_here([]) | {"torch": "0.0.1"})
    check.folder.parent.mkdir(parents=True)
    check.folder.write_text("a file where the folder would be")
    with pytest.raises(ClusterError, match=r"submitted with 0.0.1"):
        checked(check, tmp_path)


@pytest.mark.parametrize(("versions", "phase"), [({}, "over"), ({"torch": "0.0.1"}, "versions")])
def test_a_rank_leaves_after_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], phase: str
) -> None:
    """However slow the file system is. Rank 0 would wait for a rank that has passed, and not know where one failed."""

    def write_slowly(path: Path, value: Any) -> None:
        if value["error"] or value["phase"] == Phase.over:
            time.sleep(0.5)
        write_json(path, value)

    monkeypatch.setattr("hpc.jobs.inspection.write_json", write_slowly)
    (tmp_path / "rank-0-0.begun").touch()
    station = Station(Placement(0, 1, 0, "127.0.0.1", 0), tmp_path, Event(), KeyboardInterrupt, PROGRAM)
    Rank(check_of(tmp_path, versions=versions_here([]) | versions), station).work()
    written = json.loads((tmp_path / "rank-0-0.json").read_text())
    assert (written["phase"], bool(written["error"])) == (phase, bool(versions))


def ranks_of(check: SiteCheck, folder: Path, *environments: dict[str, str], program: str = PROGRAM) -> list[int]:
    """The exit statuses of ranks that begin as srun begins them, each with variables of its own."""
    digest = Payload.of_check(check, Zero(0, False, 0, 300)).write(folder)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(len(environments))}
    command = [
        "sh",
        "-c",
        BEFORE_PYTHON,
        str(check.root),
        str(folder),
        sys.executable,
        "-m",
        "hpc",
        program,
        str(folder),
        f"sha256={digest}",
    ]
    processes = []
    for rank, environment in enumerate(environments):
        place = {"RANK": str(rank), "LOCAL_RANK": "0", "SLURM_PROCID": str(rank), "SLURMD_NODENAME": f"n{rank + 1}"}
        processes.append(subprocess.Popen(command, env=os.environ | meeting | place | environment))
    return [process.wait(timeout=120) for process in processes]


def attempt_in(folder: Path) -> str:
    """What rank 0 wrote down in the end."""
    (path,) = folder.glob("attempt-0-*.json")
    return str(json.loads(path.read_text())["message"])


def test_two_ranks_meet(tmp_path: Path) -> None:
    check = check_of(tmp_path)
    assert ranks_of(check, tmp_path, {}, {}) == [0, 0]
    report = Report.read(check.folder)
    assert report is not None
    assert [rank.node for rank in report.ranks] == ["n1", "n2"]
    assert check.is_done


def test_a_program_that_cannot_be_imported_is_named_after_all_else(tmp_path: Path) -> None:
    check = check_of(tmp_path)
    assert ranks_of(check, tmp_path, {}, program="nowhere.program") == [1]
    assert attempt_in(tmp_path).startswith("n1: the program nowhere.program cannot be imported here (No module named")
    report = Report.read(check.folder)
    assert report is not None
    assert report.ranks[0].phase == Phase.inputs


def test_the_rank_that_fails_is_named_by_the_first(tmp_path: Path) -> None:
    """One has another version of a library; the other one does not wait for it where the ranks meet."""
    metadata = tmp_path / "site-packages" / "torch-0.0.1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 0.0.1\n")
    path = f"{metadata.parent}:{HPC.parent}"
    assert ranks_of(check_of(tmp_path), tmp_path, {}, {"PYTHONPATH": path}) == [1, 1]
    assert attempt_in(tmp_path).startswith(f"n2: has torch 0.0.1 (submitted with {version('torch')})")


@pytest.mark.parametrize(
    ("folder", "python", "message"),
    [
        ("nowhere", sys.executable, "n2: does not see /shared; put root= on a file system that all nodes have"),
        (".", "/nowhere/python", "n2: does not have /nowhere/python; install the environment on a file system"),
    ],
)
def test_what_a_node_lacks_before_python(tmp_path: Path, folder: str, python: str, message: str) -> None:
    command = ["sh", "-c", BEFORE_PYTHON, "/shared", str(tmp_path / folder), python]
    process = subprocess.run(
        command, env=os.environ | {"SLURMD_NODENAME": "n2"}, capture_output=True, text=True, check=False
    )
    assert process.returncode == 1
    assert process.stderr.startswith(f"error: {message}")


def test_errors_of_ranks_are_found_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("0: begins\n 1: error: n2: does not see /shared: mount it\nerror: of nobody\n1: error: n2: again\n")
    assert said(log) == {1: ("n2", "does not see /shared: mount it")}
    assert said(tmp_path / "none") == {}


def test_the_first_cause_comes_first_and_equal_ones_once() -> None:
    reports = [
        RankReport(0, "n1", Phase.meeting, error="nobody came"),
        RankReport(1, "n2", Phase.gpus, error="no GPU"),
        RankReport(2, "n3", Phase.over),
        RankReport(3, "n4", Phase.gpus, error="no GPU"),
        RankReport(4, "n5", Phase.begin, error="no root"),
    ]
    assert problem_of(reports) == "n5: no root; n2, n4: no GPU"
    assert problem_of(reports[:1]) == "n1: nobody came"
    assert problem_of(reports[2:3]) == ""


def test_ranks_that_see_the_same_gpu_are_noticed() -> None:
    gpus = [Gpu("A100", 80.0, uuid) for uuid in ("a", "b")]
    bound = [RankReport(rank, "n1", Phase.over, gpus=(gpus[rank],)) for rank in (0, 1)]
    assert unseen_gpus(bound, per_node=2) == ""
    twice = [RankReport(rank, "n1", Phase.over, gpus=(gpus[0],)) for rank in (0, 1)]
    assert unseen_gpus(twice, per_node=2).startswith("n1: its ranks see 1 of 2 GPUs")
