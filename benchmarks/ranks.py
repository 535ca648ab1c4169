"""Two ranks with a thread each against one process with two threads, on the same two cores.

    DEVICE=cpu python -m benchmarks.ranks [--steps 8]

in:  the demo's backbone, target and data; two contexts per step, which the ranks share under zero=stage1, and the one
     process reads one by one or as a batch
out: the median seconds of a step of stage 2 in every way, beside those of the first (rows.py)
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from benchmarks.rows import Row, publish
from benchmarks.stages import WARM_UP_STEPS, StageSpeed
from neurogen.config import StepKind
from neurogen.run import compose
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of

SETTING = [
    "recipe.inject.steps=0",  # stage 2 alone, as in the paper's ablation
    "recipe.tune.anchor=0",
    "recipe.tune.contexts_per_step=2",
    "recipe.tune.validate_every=100",
    "generator.scale=fan_in",
    "generator.soft_clip=1.0",
]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
WAYS = {
    "1 process × 2 threads, as a batch": ([], ["num_threads=2"]),
    "1 process × 2 threads, one by one": ([], ["num_threads=2", "batch_tokens=1"]),
    "2 ranks × 1 thread": (TORCHRUN, ["num_threads=1", "zero=stage1"]),
}


def main() -> None:
    """Measures every way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    num_steps = WARM_UP_STEPS + parser.parse_args().steps
    speeds = {
        name: speed_of(launcher, [*SETTING, f"recipe.tune.steps={num_steps}", *words])
        for name, (launcher, words) in WAYS.items()
    }
    first, *others = speeds
    seconds = {name: speed.step_s for name, speed in speeds.items()}
    publish("ranks", [Row.of(name, seconds[name], first, seconds[first], speeds[name].n) for name in others])


def speed_of(launcher: Sequence[str], words: Sequence[str]) -> StageSpeed:
    """The speed of stage 2, run by itself in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*words, "device=cpu", f"root={folder}"]
        command = [sys.executable, *launcher, "-m", "neurogen.run", *words, "only=[tune]"]
        subprocess.run(command, check=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
        steps = {step.kind: step for step in in_order(steps_of([compose(words)]))}
        return StageSpeed.of(steps[StepKind.tune])


if __name__ == "__main__":
    main()
