"""What tests of faults share: programs whose calls fail, the steps of a tiny experiment, the number of tries.

FAULT_TRIES   tries of every fault, by default a few; `make test-faults` makes many
FAULT_SEED    of what is drawn at random; it is printed where a test fails
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Composed
from tests.faults.interposed import Fault, Server, library, serving
from tests.faults.jobs import Jobs, content_of

FEW = 1
TRIES, SEED = int(os.environ.get("FAULT_TRIES", FEW)), int(os.environ.get("FAULT_SEED", "0"))

# The zoo; checkpoints and generators; results; tables, which take so long that the few tries leave them out.
STEPS = ("reference", "inject", "tune", "evaluate", *(["sweeps"] if TRIES > FEW else []))
SELDOM = pytest.mark.skipif(TRIES <= FEW, reason="takes minutes; make test-faults has it")
MARKS = [pytest.mark.faults, pytest.mark.xdist_group("faults")]  # one worker, since all share what is undisturbed


def drawn(positions: range, *words: object) -> list[int]:
    """As many of these positions as there are tries; `words` say what they are drawn for."""
    rng = random.Random(repr((SEED, words)))
    chosen = sorted(rng.sample(positions, min(TRIES, len(positions))))
    print(f"FAULT_SEED={SEED} {words}: {len(chosen)} of {len(positions)} positions")
    return chosen


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Programs whose calls of the C library fail."""
    built = library(tmp_path_factory.mktemp("interposed"))
    if built is None:
        pytest.skip("there is no C compiler on this machine, or it is no Linux: no call can be made to fail")
    with serving(built) as running:
        yield running


@dataclass(frozen=True)
class Undisturbed:
    """A tiny experiment that nothing has disturbed: its root before every step, and how many calls that makes."""

    jobs: Jobs
    folder: Path  # BEFORE/KIND is the root before the step
    num_calls: dict[str, int]  # by kind
    content: dict[str, dict[str, Any]]  # by kind, after the step

    def restore(self, kind: str) -> None:
        """Make the root as it was before the step of this kind."""
        shutil.rmtree(self.jobs.root, ignore_errors=True)
        shutil.copytree(self.folder / kind, self.jobs.root)


@pytest.fixture(scope="session")
def undisturbed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """All steps, each done by a job of its own."""
    from functools import partial

    from tests.conftest import tiny

    folder = tmp_path_factory.mktemp("undisturbed")
    experiment: Composed = partial(tiny, folder / "runs")
    jobs = Jobs.of(experiment, folder / "runs")
    num_calls, content = dict[str, int](), dict[str, dict[str, Any]]()
    for step in jobs.steps:
        shutil.copytree(jobs.root, folder / step.kind)
        ended = server.run(jobs.words(step.kind), jobs.root, Fault(), folder)
        assert ended.status == 0, ended.stderr
        num_calls[step.kind], content[step.kind] = ended.num_calls, content_of(jobs.root)
    return Undisturbed(jobs, folder, num_calls, content)
