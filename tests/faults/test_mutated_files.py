"""Every loader on files of which some bytes are others: it gives a value, or says in one line what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hpc.errors import ClusterError
from hpc.jobs.answer import Answer, _keep, _kept
from hpc.jobs.attempts import AttemptLog, attempts_of
from hpc.jobs.check_report import Phase as CheckPhase
from hpc.jobs.check_report import RankReport, Report
from hpc.jobs.payload import Payload
from hpc.jobs.queue import Queue, new_record
from hpc.jobs.scheduler import TaskState
from hpc.jobs.sweep import Manifest
from hpc.ranks.probes import Gpu
from neurogen import program, store
from neurogen.data.preparation import ImageShape
from neurogen.errors import UserError
from neurogen.generator.folder import read_description
from neurogen.report.formats import read_rows
from neurogen.study.graph import steps_of
from neurogen.study.results import Curve, EvaluationResult, from_json
from neurogen.targets.networks import cnn
from neurogen.targets.parameters import ParameterLayout
from neurogen.targets.zoo import load_network
from neurogen.training.checkpoint import _newest
from neurogen.training.history import read_rows as read_history
from tests.conftest import Composed, FinishedRun
from tests.hpc.conftest import sweep_of

pytestmark = pytest.mark.faults
TRIES = int(os.environ.get("FAULT_TRIES", "0"))
LAYOUT = ParameterLayout.of(cnn(ImageShape(1, 8, 8, 10), [16, 32]))

Load = Callable[[Path], object]


def read_as(kind: type, path: Path) -> object:
    return from_json(kind, store.read_json(path), path)


# By kind: the file of a finished run, the name that it needs, what reads it.
OF_RUNS: dict[str, tuple[str, str, Load]] = {
    "network": ("reference/*/network-0000.safetensors", "network.safetensors", lambda path: load_network(path, LAYOUT)),
    "curve": (
        "reference/*/network-0000.json",
        "curve.json",
        partial(read_as, Curve),
    ),
    "checkpoint": ("tune/*/checkpoints/step-*8.safetensors", "step-8.safetensors", lambda path: _newest(path.parent)),
    "history": ("tune/*/checkpoints/history.jsonl", "history.jsonl", lambda path: list(read_history(path))),
    "generator": ("tune/*/generator.json", "generator.json", lambda path: read_description(path.parent)),
    "evaluation": (
        "evaluate/*/metrics.json",
        "metrics.json",
        partial(read_as, EvaluationResult),
    ),
    "results": ("sweeps/*/results.json", "results.json", lambda path: read_rows(path.parent)),
}
OF_QUEUES: dict[str, tuple[str, Load]] = {
    "record": ("queue/batch/record.json", lambda path: Queue(path.parents[2]).records()),
    "attempt": ("queue/batch/attempt-0-*.json", lambda path: attempts_of(path.parent, 0)),
    "payload": ("queue/batch/payload.json", lambda path: Payload.read(path.parent).step(program, 0)),
    "answer": ("queue/answer-0.json", lambda path: _kept(path.parent, "silence", {})),
    "report": ("check/report.json", lambda path: Report.read(path.parent)),
    "manifest": ("sweeps/*/manifest.json", lambda path: Manifest.read(path.parent)),
}


def queue_in(root: Path, experiment: Composed) -> None:
    """One file of every kind that a submission and its jobs leave."""
    composed = replace(experiment(), root=str(root))
    last = steps_of([composed])
    sweep = replace(sweep_of(experiment, root), last=last, runtime=program.settings_of(composed))
    batch = root / "queue" / "batch"
    Queue(root).write(new_record("batch", "tune", [("tune-1", "label", Path("/folder"))], ["a"], ["b"], 1, "code"))
    Payload.of(sweep, [last], max_requeues=1).write(batch)
    log = AttemptLog(batch, 0)
    log.end(replace(log.attempt, ended=time.time(), exit_status=0))
    _keep(root / "queue" / "answer-0.json", Answer({"a": [TaskState("7", None, "RUNNING", "", 5)]}, {}, time.time()))
    rank = RankReport(0, "n1", CheckPhase.over, {"torch": "2"}, (Gpu("H100", 80.0, "u"),), {"root": 0.1})
    Report("1-node", time.time(), "", [rank]).write(root / "check")
    sweep.write_manifest()


def mutated(content: bytes, edits: list[tuple[float, int, int]]) -> bytes:
    """Each edit replaces, removes or adds a byte, at a place between 0 and 1."""
    changed = bytearray(content)
    for place, byte, kind in edits:
        at = round(place * len(changed))
        changed[at : at + (kind < 2)] = b"" if kind == 1 else bytes([byte])
    return bytes(changed)


EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255), st.integers(0, 2)), min_size=1, max_size=8)
DEEPER = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


def give_a_value_or_say_why(load: Load, path: Path) -> None:
    try:
        load(path)
    except (UserError, ClusterError) as error:
        message = str(error)
        assert str(path) in message or str(path.parent) in message or "submit it again" in message, message


def read_mutated(load: Load, path: Path) -> None:
    """Many changes of the file's bytes, then other JSON in its place."""
    content = path.read_bytes()
    phases = (Phase.explicit, Phase.generate)  # without shrinking, which takes minutes
    common = settings(max_examples=TRIES or 40, phases=phases, deadline=None, suppress_health_check=list(HealthCheck))

    @common
    @given(EDITS)
    def bytes_are_others(edits: list[tuple[float, int, int]]) -> None:
        path.write_bytes(mutated(content, edits))
        give_a_value_or_say_why(load, path)

    @common
    @given(DEEPER)
    def another_value(value: Any) -> None:
        path.write_text(json.dumps(value), encoding="utf-8")
        give_a_value_or_say_why(load, path)

    @common
    @given(st.data())
    def a_part_is_another(data: st.DataObject) -> None:
        """Of JSON, one value somewhere inside."""
        whole = json.loads(content.splitlines()[0] if path.suffix == ".jsonl" else content)
        holder: Any = whole
        while True:
            keys = list(range(len(holder))) if isinstance(holder, list) else list(holder)
            key = data.draw(st.sampled_from(keys))
            if not isinstance(holder[key], (list, dict)) or not holder[key] or data.draw(st.booleans()):
                holder[key] = data.draw(DEEPER)
                break
            holder = holder[key]
        path.write_text(json.dumps(whole), encoding="utf-8")
        give_a_value_or_say_why(load, path)

    bytes_are_others()
    another_value()
    if path.suffix.startswith(".json"):
        a_part_is_another()


@pytest.mark.parametrize("kind", OF_RUNS)
def test_a_file_of_a_run(tiny_run: FinishedRun, tmp_path: Path, kind: str) -> None:
    """In a folder without DONE, so that no digest stops it before the loader."""
    pattern, name, load = OF_RUNS[kind]
    (source,) = (tiny_run.folder / "runs").glob(pattern)
    shutil.copyfile(source, tmp_path / name)
    read_mutated(load, tmp_path / name)


@pytest.mark.parametrize("kind", OF_QUEUES)
def test_a_file_of_a_queue(experiment: Composed, tmp_path: Path, kind: str) -> None:
    queue_in(tmp_path, experiment)
    pattern, load = OF_QUEUES[kind]
    (path,) = tmp_path.glob(pattern)
    read_mutated(load, path)
