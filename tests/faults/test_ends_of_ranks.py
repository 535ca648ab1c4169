"""Two ranks do two steps of a stage and end, while every core is busy: both end well, again and again.

A rank that dies after its work is a failed job on a cluster, and whatever waits for it is cancelled.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import pytest

from hpc.jobs.payload import Payload
from hpc.ranks.zero import zero_from
from neurogen import program
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from tests.conftest import TINY, FinishedRun, folders, tiny
from tests.faults.conftest import MARKS, TRIES
from tests.faults.interposed import REPOSITORY
from tests.hpc.conftest import sweep_of
from tests.hpc.forked import free_port

pytestmark = MARKS
NUM_RANKS = 2
SHORT = [f"recipe.{stage}.{field}=2" for stage in ("inject", "tune") for field in ("steps", "contexts_per_step")]
BUSY = "import os\nos.nice(5)\nwhile True: pass"
SIGNS = ("terminate", "Traceback", "SIGABRT", "Fatal Python error")


class Ended(NamedTuple):
    """The ranks of a step after their end."""

    statuses: list[int]  # negative after a signal
    printed: str


class Ranks:
    """Begins several ranks of a program together, in forks of a process that has imported the libraries."""

    def __init__(self, server: subprocess.Popen[str], folder: Path) -> None:
        self.server, self.folder = server, folder

    def run(self, words: list[str]) -> Ended:
        """`python -m WORDS` on all ranks to their end."""
        meeting = {"WORLD_SIZE": str(NUM_RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        outputs = [[str(self.folder / f"{rank}.{name}") for name in ("out", "err")] for rank in range(NUM_RANKS)]
        places = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(NUM_RANKS)]
        ranks = [
            (words, str(self.folder), {**os.environ, **meeting, **place}, paths)
            for place, paths in zip(places, outputs, strict=True)
        ]
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(ranks) + "\n")
        self.server.stdin.flush()
        statuses = json.loads(self.server.stdout.readline())
        return Ended(statuses, "".join(Path(path).read_text(encoding="utf-8") for paths in outputs for path in paths))


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    """Ranks, and beside them as many processes that do nothing but take time as there are cores: a share of a quarter,
    so that the ranks come forward."""
    with ExitStack() as processes:
        for _ in range(os.cpu_count() or 1):
            busy = processes.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
            processes.callback(busy.kill)
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.rank_server"],
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.enter_context(server)
        assert server.stdout is not None
        for line in server.stdout:  # libraries print what they miss
            if line == "ready\n":
                break
        yield Ranks(server, tmp_path_factory.mktemp("ranks"))


def programs(zero: str, root: Path) -> list[tuple[str, list[str]]]:
    """Stage 1 and stage 2, with the arguments of Python: as a user's commands, then as jobs."""
    experiment = replace(tiny(root, *SHORT, f"zero={zero}"), root=str(root))
    steps = in_order(steps_of([experiment]))
    sweep = replace(
        sweep_of(partial(tiny, root), root),
        zero=zero_from(experiment.zero),
        runtime=program.settings_of(experiment),
    )
    batch = root / "queue" / "batch"
    batch.mkdir(parents=True)
    Payload.of(sweep, steps, max_requeues=0).write(batch)
    command = ["neurogen.run", *TINY, *SHORT, f"zero={zero}", f"root={root}"]
    index = {step.kind: str(index) for index, step in enumerate(steps)}
    stages = ("inject", "tune")
    return [
        *((stage, [*command, f"only=[{stage}]"]) for stage in stages),
        *((stage, ["hpc", program.NAME, str(batch), index[stage]]) for stage in stages),
    ]


@pytest.mark.parametrize("zero", sorted(path.stem for path in (REPOSITORY / "conf" / "zero").glob("stage*.yaml")))
def test_two_ranks_end_well(ranks: Ranks, tiny_run: FinishedRun, tmp_path: Path, zero: str) -> None:
    root = tmp_path / "runs"
    for finished in ("reference", "classical"):
        shutil.copytree(tiny_run.folder / "runs" / finished, root / finished)
    began = time.monotonic()
    for count, (stage, words) in zip(range(TRIES), cycle(programs(zero, root)), strict=False):
        if stage in folders(root):
            shutil.rmtree(folders(root)[stage])
        ended = ranks.run(words)
        assert ended.statuses == [0] * NUM_RANKS, f"start {count}: {ended}"
        assert not [sign for sign in SIGNS if sign in ended.printed], f"start {count}: {ended.printed}"
        step = folders(root)[stage]
        assert (step / "DONE").exists()
        assert json.loads((step / "environment.json").read_text(encoding="utf-8"))["ranks"] == NUM_RANKS
    print(f"{zero}: {TRIES} starts and ends of {NUM_RANKS} ranks in {time.monotonic() - began:.0f} s")
