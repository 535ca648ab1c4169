"""Sections `resume default` and `resume deterministic`: does the same work give the same bits, also when interrupted?

in:  one experiment: its zoo trained twice, both stages run twice from one zoo, and run once more with a stop in each
out: how many tensors of the results differ, and by how much at most

`deterministic` is deterministic=true of the config, `default` leaves torch its choice.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

import torch
from safetensors.torch import load_file

from benchmarks.setting import LENET, ON_GPU, report
from benchmarks.stages import run_stages, runtime_on
from neurogen.errors import Interrupted
from neurogen.training.numerics import Numerics
from neurogen.training.runtime import Runtime

SETTING = LENET if ON_GPU else []
STAGES = ("inject", "tune")


class StopAfterCheckpoint(Event):
    """A stop flag that is set once in every stage, as a signal would set it: after the stage's first checkpoint."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root, self.stopped = root, set[str]()

    def is_set(self) -> bool:
        """Whether a stage has saved a checkpoint since the last stop: each stage is stopped once."""
        saved = {kind for kind in STAGES if any(self.root.glob(f"{kind}/*/checkpoints/step-*"))}
        new = saved - self.stopped
        self.stopped |= new
        return bool(new)


@dataclass(frozen=True)
class Comparison:
    """Of the tensors in the files of two runs."""

    tensors: int
    differ: int
    largest_difference: float


def measure(folder: Path, case: str) -> None:
    """Which results are equal to the last bit: a zoo again, the stages again, the stages stopped and resumed."""
    runtime = replace(runtime_on(), numerics=Numerics(deterministic=case == "deterministic"))
    for name in ("first", "second"):
        run_stages(folder / name, runtime, SETTING, ["reference"])
    report(zoo_again=compare(folder / "first", folder / "second", ("reference",)))
    for name in ("once", "again", "interrupted"):
        shutil.copytree(folder / "first" / "reference", folder / name / "reference")
    for name in ("once", "again"):
        run_stages(folder / name, runtime, SETTING, STAGES)
    report(stages_again=compare(folder / "once", folder / "again", STAGES))
    stops = run_with_stops(folder / "interrupted", runtime)
    report(resumed=compare(folder / "once", folder / "interrupted", STAGES), stops=stops)


def run_with_stops(root: Path, runtime: Runtime) -> int:
    """Start both stages again whenever they have been stopped. Returns how often that was: once per stage."""
    runtime.stop = StopAfterCheckpoint(root)
    stops = 0
    while True:
        try:
            run_stages(root, runtime, SETTING, STAGES)
        except Interrupted:
            stops += 1
        else:
            return stops


def compare(first: Path, second: Path, kinds: tuple[str, ...]) -> Comparison:
    """The tensors of the steps of these kinds under two roots, one by one."""
    left, right = tensors_of(first, kinds), tensors_of(second, kinds)
    assert left.keys() == right.keys()
    differences = [float((left[name].double() - right[name].double()).abs().max()) for name in left]
    return Comparison(len(left), sum(not torch.equal(left[name], right[name]) for name in left), max(differences))


def tensors_of(root: Path, kinds: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """The results of the steps of these kinds, without their checkpoints."""
    paths = [path for kind in kinds for path in sorted((root / kind).rglob("*.safetensors"))]
    results = [path for path in paths if path.parent.name != "checkpoints"]
    return {f"{path.relative_to(root)}/{name}": value for path in results for name, value in load_file(path).items()}
