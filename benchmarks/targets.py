"""What large targets cost: one network generated, and one step of stage 2, with parameter tokens in blocks and without.

    DEVICE=cpu python -m benchmarks.targets [--targets lenet resnet20] [--limit-s 900]

in:  targets from 5 thousand to 11 million values; SmolLM2-135M, four images of 28×28 in the context, 64 for the loss
out: seconds and peak memory as a table, and as curves: OUT/targets.json and OUT/targets.png

Each measurement is a process of its own, since memory that was used once stays with a process. What does not end within
the limit, or is out of memory, is left out and named.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.setting import DEVICE, NUM_THREADS, report, reported
from benchmarks.timing import seconds_of
from neurogen.data.dataset import load_images
from neurogen.environment import environment
from neurogen.generator.context import Context
from neurogen.generator.folder import build_generator
from neurogen.generator.losses import tuning_loss
from neurogen.generator.prompts import Prompt
from neurogen.generator.task import Task
from neurogen.report.canvas import Figure
from neurogen.run import compose
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.training.groups import optimizer_of
from neurogen.training.memory import peak_memory_gb
from neurogen.training.runtime import runtime_here

TARGETS = {
    "cnn_small": [],
    "lenet": [],
    "resnet8": [],
    "resnet20": [],
    "squeezenet": ["target=torchvision", "target.options.model=squeezenet1_1"],
    "mobilenet_v3": ["target=torchvision", "target.options.model=mobilenet_v3_small"],
    "resnet18": ["target=torchvision", "target.options.model=resnet18"],
}
BLOCKS = ("512", "null")
WORKS = ("generated", "step")
BATCH = 64


@dataclass(frozen=True)
class Measurement:
    """One target, one kind of work, one length of blocks."""

    target: str
    values: int
    tokens: int
    trained: int  # values of the generator
    block_tokens: str
    work: str
    seconds: float
    peak_gib: float  # of the whole process


def main() -> None:
    """Measures all, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--limit-s", type=float, default=900)
    parser.add_argument("--measure", nargs=3, metavar=("TARGET", "BLOCK_TOKENS", "WORK"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        report(**asdict(measured(*arguments.measure)))
        return
    rows: list[Measurement] = []
    for target in arguments.targets:
        for block_tokens in BLOCKS:
            for work in WORKS:
                row = in_a_process(target, block_tokens, work, arguments.limit_s)
                rows += [] if row is None else [row]
    publish(rows, Path(os.environ.get("OUT", "bench-results")))


def in_a_process(target: str, block_tokens: str, work: str, limit_s: float) -> Measurement | None:
    """The measurement, or None where there is none; a line says why."""
    words = [sys.executable, "-m", "benchmarks.targets", "--measure", target, block_tokens, work]
    named = f"{target}, block_tokens={block_tokens}, {work}"
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    try:
        process = subprocess.run(
            words, env=environment, capture_output=True, encoding="utf-8", timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        print(f"{named}: not done after {limit_s:.0f} s", flush=True)
        return None
    if process.returncode:
        print(f"{named}: exit {process.returncode}, {process.stderr.strip().splitlines()[-1:]}", flush=True)
        return None
    row = Measurement(**reported(process.stdout))
    print(f"{named}: {row.seconds:.2f} s, {row.peak_gib:.2f} GiB", flush=True)
    return row


def measured(target: str, block_tokens: str, work: str) -> Measurement:
    """The work once, after one warm-up where the target is small."""
    words = TARGETS[target] or [f"target={target}"]
    experiment = compose([*words, "dataset=mnist5k", f"generator.block_tokens={block_tokens}", f"device={DEVICE}"])
    runtime, dataset = runtime_here(DEVICE, NUM_THREADS), load_images(experiment.dataset)
    network = build_network(experiment.target, dataset.shape).to(runtime.device)
    layout = ParameterLayout.of(network)
    task = Task.of(dataset, experiment.dataset, experiment.target, Scale.of_fan_in(layout, None))
    generator = build_generator(experiment.backbone, experiment.generator, [task], 0, runtime)
    optimizer = optimizer_of(generator, experiment.recipe.tune)
    rng = torch.Generator().manual_seed(0)
    context = Context.sample(dataset.train, dataset.class_names, generator.config, rng)
    prompts = [Prompt(task.instruction, context)]
    inputs, labels = dataset.train.batch(torch.arange(BATCH))
    inputs, labels = inputs.to(runtime.device), labels.to(runtime.device)

    @torch.no_grad()
    def generated() -> None:
        generator.decode(task.name, generator(task.name, prompts)[0])

    def step() -> None:
        tensors = generator.decode(task.name, generator(task.name, prompts)[0])
        tuning_loss(network, tensors, inputs, labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    run = {"generated": generated, "step": step}[work]
    if layout.num_parameters < 10**6:
        run()
    seconds = seconds_of(run)
    return Measurement(
        target,
        layout.num_parameters,
        generator.num_tokens(task.name),
        sum(value.numel() for value in generator.trainables.values()),
        block_tokens,
        work,
        seconds,
        peak_memory_gb(runtime.device),
    )


def publish(rows: Sequence[Measurement], folder: Path) -> None:
    """The table on the terminal, JSON, and the curves."""
    runtime = runtime_here(DEVICE, NUM_THREADS)
    table = Table(title=f"python -m benchmarks.targets, {DEVICE}, {runtime.num_threads} threads", title_justify="left")
    for column in ("target", "values", "tokens", "trained", "blocks", "work", "s", "GiB"):
        table.add_column(column)
    for row in rows:
        counts = (f"{number:,}" for number in (row.values, row.tokens, row.trained))
        table.add_row(row.target, *counts, row.block_tokens, row.work, f"{row.seconds:.2f}", f"{row.peak_gib:.2f}")
    Console().print(table)
    about = environment(runtime.device, runtime.dtype)
    del about["host"]
    content = {**about, "num_threads": runtime.num_threads, "rows": [asdict(row) for row in rows]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "targets.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    plot(rows, folder / "targets.png")


def plot(rows: Sequence[Measurement], path: Path) -> None:
    """Time and memory over the values of the target."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, quantity, label in zip(figure.subplots(1, 2), ("seconds", "peak_gib"), ("seconds", "GiB"), strict=True):
        for color, work in zip(("C0", "C1"), WORKS, strict=True):
            for style, block_tokens in zip(("-", "--"), BLOCKS, strict=True):
                points = [(row.values, getattr(row, quantity)) for row in rows if is_of(row, work, block_tokens)]
                way = "all tokens at once" if block_tokens == "null" else f"blocks of {block_tokens} tokens"
                values, quantities = zip(*points, strict=True) if points else ((), ())
                axes.plot(values, quantities, style, color=color, marker="o", label=f"{work}, {way}")
        axes.set(xlabel="values of the target", ylabel=label, xscale="log")
        axes.grid(alpha=0.3)
    figure.axes[0].set_yscale("log")
    figure.axes[0].legend()
    figure.axes[1].set_ylim(bottom=0)
    figure.savefig(path, dpi=110)


def is_of(row: Measurement, work: str, block_tokens: str) -> bool:
    """Whether this is a point of that curve."""
    return (row.work, row.block_tokens) == (work, block_tokens)


if __name__ == "__main__":
    main()
