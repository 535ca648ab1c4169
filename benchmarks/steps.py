"""`make bench`, its second part: what the program's own work takes beside the arithmetic in it, as ratios.

    DEVICE=cpu python -m benchmarks.steps [--repeats 5]

in:  the demo's backbone, target and data (SmolLM2-135M, LeNet, mnist5k), on a CPU or with DEVICE=cuda on a GPU
out: both medians and their ratio (rows.py): a step of both stages against the bare pass, eight contexts as a batch
     against the same one by one, networks judged by the evaluation against forward passes
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch.func import functional_call

from benchmarks.bare import BarePass
from benchmarks.rows import Row, publish
from benchmarks.setting import DEVICE, NUM_THREADS, ON_GPU, report
from benchmarks.stages import WARM_UP_STEPS, run_stages
from benchmarks.timing import Work, timed
from neurogen.generator.context import Context
from neurogen.generator.folder import load_generator
from neurogen.generator.generator import Generator
from neurogen.generator.prompts import Prompt
from neurogen.stages.populations import Evaluator
from neurogen.study.pipeline import Tune
from neurogen.study.step import Step
from neurogen.targets.prediction import EVALUATION_BATCH
from neurogen.training.runtime import Runtime, runtime_here

NUM_CONTEXTS = 8
SMOLLM2 = ["dataset=mnist5k", "target=lenet", "backbone=smollm2_135m"]
SETTING = [
    "zoo.num_networks=2",
    "zoo.training.epochs=1",
    "generator.context_warmup=1",  # every step of stage 1 reads as many tokens as one of stage 2
    "recipe.inject.validate_every=100",
    "recipe.tune.validate_every=100",
    "checkpoint_every=100",
]


def main() -> None:
    """Measures all rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as name:
        publish("steps", rows_of(Path(name), runtime_here(DEVICE), [*SMOLLM2, *SETTING], repeats))


def measure(folder: Path, case: str) -> None:
    """The same as a section of gpu.py. Random weights take as long; on a CPU everything is tiny."""
    words = [*SMOLLM2, "backbone.random_seed=0"] if ON_GPU else []
    report(rows=rows_of(folder, runtime_here(DEVICE, NUM_THREADS), [*words, *SETTING], 5 if ON_GPU else 1))


def rows_of(folder: Path, runtime: Runtime, words: Sequence[str], repeats: int) -> list[Row]:
    """All rows; the steps are in this folder."""
    counts = [f"recipe.{stage}.steps={WARM_UP_STEPS + repeats}" for stage in ("inject", "tune")]
    steps = run_stages(folder, runtime, [*words, *counts], ["inject", "tune"])
    tune = steps["tune"]
    assert isinstance(tune, Tune)
    generator = load_generator(tune.folder, runtime)
    return [
        *(step_row(kind, steps[kind], generator, repeats) for kind in ("inject", "tune")),
        *batch_rows(generator, tune, repeats),
        judge_row(generator, tune, runtime, repeats),
    ]


def step_row(kind: str, step: Step, generator: Generator, repeats: int) -> Row:
    """A step as the stage measured it, against the bare pass over as many tokens afterwards."""
    rows = [row for row in step.metrics()["history"] if "step_s" in row][WARM_UP_STEPS:]
    seconds = statistics.median(row["step_s"] for row in rows)
    num_tokens = round(statistics.median(row["tokens_per_s"] * row["step_s"] for row in rows))
    bare = BarePass(generator.backbone, num_tokens)
    (least,) = timed({"bare": partial(bare, 1)}, repeats).values()
    return Row.of(f"a step of {kind}, {num_tokens} tokens", seconds, "the bare pass", least.median_s, repeats)


def batch_rows(generator: Generator, tune: Tune, repeats: int) -> list[Row]:
    """Networks of several contexts at once against one by one: there and back, and generated only."""
    (task,), (spec,) = generator.tasks.values(), tune.tasks
    train, rng = spec.load().train, torch.Generator().manual_seed(0)
    contexts = [Context.sample(train, task.class_names, generator.config, rng) for _ in range(NUM_CONTEXTS)]
    prompts = [Prompt(task.instruction, context) for context in contexts]

    def there_and_back(size: int) -> None:
        for first in range(0, NUM_CONTEXTS, size):
            generator(task.name, prompts[first : first + size]).square().mean().backward()
        generator.zero_grad()

    @torch.no_grad()
    def there(size: int) -> None:
        for first in range(0, NUM_CONTEXTS, size):
            generator(task.name, prompts[first : first + size])

    works: dict[str, Callable[[int], None]] = {"there and back": there_and_back, "generated": there}
    rows = []
    for name, work in works.items():
        measured = timed({"at once": partial(work, NUM_CONTEXTS), "one by one": partial(work, 1)}, repeats)
        seconds, singly = (timing.median_s for timing in measured.values())
        rows.append(Row.of(f"{NUM_CONTEXTS} contexts at once, {name}", seconds, "one by one", singly, repeats))
    return rows


def judge_row(generator: Generator, tune: Tune, runtime: Runtime, repeats: int) -> Row:
    """The accuracies of networks on all test samples, against a forward pass per batch and network, data prepared."""
    (task,), (spec,) = generator.tasks.values(), tune.tasks
    test, network = spec.load().test, task.network().to(runtime.device)
    networks = task.scale.decode(torch.randn(NUM_CONTEXTS, task.layout.num_parameters))
    evaluator = Evaluator(network, task.layout, test, runtime)
    batches = [inputs.to(runtime.device) for inputs in test.inputs().split(EVALUATION_BATCH)]

    @torch.no_grad()
    def forward() -> None:
        for flat in networks:
            tensors = task.layout.tensors(flat.to(runtime.device))
            for inputs in batches:
                functional_call(network, tensors, (inputs,))

    works: dict[str, Work] = {"judged": partial(evaluator.accuracies, networks), "forward": forward}
    judged, passes = timed(works, repeats).values()
    return Row.of(f"{NUM_CONTEXTS} networks judged", judged.median_s, "forward passes", passes.median_s, repeats)


if __name__ == "__main__":
    main()
