"""The demo, measured: where its time goes, and how much sooner a network is generated than trained.

    DEVICE=cpu python -m benchmarks.demo [--root FOLDER] [--repeats 5]

in:  a folder in which the demo has run; without --root it runs now, in a temporary one
out: the seconds of every step; the whole against the bare passes of the backbone and the training of networks; one and
     eight generated networks against classical training to the same accuracy on validation
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

import neurogen
from benchmarks.bare import BarePass
from benchmarks.commands import RUN
from benchmarks.rows import Row, publish
from benchmarks.setting import DEVICE, ON_GPU, TINY, report
from benchmarks.steps import NUM_CONTEXTS
from benchmarks.timing import seconds_of, timed
from neurogen.api.generator import LoadedGenerator
from neurogen.config import Experiment, StepKind
from neurogen.data.dataset import Dataset
from neurogen.progress import Progress
from neurogen.run import compose
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from neurogen.study.pipeline import Tune
from neurogen.study.results import Curve
from neurogen.study.step import Step
from neurogen.targets.fitting import initialised, train_networks
from neurogen.targets.prediction import Batches, evaluate_network
from neurogen.training.runtime import runtime_here

STAGES = (StepKind.inject, StepKind.tune)
NETWORKS = (StepKind.reference, StepKind.classical)
NUM_SAMPLES = 512  # among which the context of a generated network is drawn


def main() -> None:
    """Measures all rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as name:
        root = arguments.root or Path(name) / "runs"
        publish("demo", rows_of(root, [], arguments.repeats, is_new=arguments.root is None))


def measure(folder: Path, case: str) -> None:
    """The same as a section of gpu.py; on a CPU everything is tiny."""
    report(rows=rows_of(folder, [] if ON_GPU else TINY, 5 if ON_GPU else 1, is_new=True))


def rows_of(root: Path, words: Sequence[str], repeats: int, is_new: bool) -> list[Row]:
    """All rows, of the demo with these changes; that of the whole only where it is new in this root."""
    words = [*words, f"root={root}", f"device={DEVICE}"]
    seconds = seconds_of(partial(subprocess.run, [*RUN, *words], check=True))
    experiment = compose(words)
    steps = {step.kind: step for step in in_order(steps_of([experiment]))}
    took: dict[StepKind, float] = {
        kind: float(step.metrics()["seconds"]) for kind, step in steps.items() if kind != StepKind.sweeps
    }
    for kind, of_kind in took.items():
        print(f"{kind}: {of_kind:.1f} s")
    tune = steps[StepKind.tune]
    assert isinstance(tune, Tune)
    generator = neurogen.load(tune.folder, device=DEVICE)
    rows = [whole(seconds, took, [steps[kind] for kind in STAGES], generator, repeats)] if is_new else []
    return [*rows, *generation(generator, experiment, tune.tasks[0].load(), repeats)]


def whole(
    seconds: float, took: dict[StepKind, float], stages: Sequence[Step], generator: LoadedGenerator, repeats: int
) -> Row:
    """The demo against all that its arithmetic takes: the bare pass of every step, and the training of networks."""
    least = sum(took[kind] for kind in NETWORKS)
    for stage in stages:
        rows = [row for row in stage.metrics()["history"] if "step_s" in row]
        num_tokens = round(statistics.mean(row["tokens_per_s"] * row["step_s"] for row in rows))
        (bare,) = timed({"bare": partial(BarePass(generator.module.backbone, num_tokens), 1)}, repeats).values()
        least += len(rows) * bare.median_s
    return Row.of("the demo", seconds, "bare passes, and networks", least, 1)


def generation(generator: LoadedGenerator, experiment: Experiment, dataset: Dataset, repeats: int) -> list[Row]:
    """Networks generated from training samples, against as many trained by the classical recipe.

    Of a training the epochs count until the network is as good on validation; all of them where it never is.
    """
    runtime = runtime_here(DEVICE)
    placed = dataset.to(runtime.device)
    validation = Batches(placed.validation, runtime.device)

    samples, labels = dataset.train.samples[torch.arange(NUM_SAMPLES)], dataset.train.labels[:NUM_SAMPLES]

    def accuracy_of(seed: int) -> float:
        network = generator.generate(samples, labels, seed=seed).network
        return evaluate_network(network, dict(network.named_parameters()), validation)[1]

    needed = statistics.mean(accuracy_of(seed) for seed in range(NUM_CONTEXTS))
    training, network = experiment.classical.training, initialised(experiment.target, dataset, 0)
    curves: list[Curve] = []
    with Progress("classical", training.epochs, "epochs") as progress:
        seconds = seconds_of(
            lambda: curves.extend(train_networks([network], placed.train, validation, training, [0], runtime, progress))
        )
    accuracies = curves[0].validation_accuracy
    num_epochs = next((epoch for epoch, accuracy in enumerate(accuracies, 1) if accuracy >= needed), training.epochs)
    trained = seconds * num_epochs / training.epochs
    print(
        f"on validation: generated {100 * needed:.2f} %, trained at best {100 * max(accuracies):.2f} %; "
        f"{num_epochs} of {training.epochs} epochs count"
    )
    counts = (1, NUM_CONTEXTS)
    generate = partial(generator.generate, samples, labels)
    measured = timed({str(count): partial(generate, num_networks=count) for count in counts}, repeats)
    return [
        Row.of(
            f"{count} networks generated",
            measured[str(count)].median_s,
            f"{count} trained by the classical recipe",
            count * trained,
            repeats,
        )
        for count in counts
    ]


if __name__ == "__main__":
    main()
