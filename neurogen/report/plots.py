"""Plots of one evaluation, each as PNG and PDF: curves of both stages, weight distributions, what a network says.

The figures and histograms go to TensorBoard as well, so that one page shows a whole experiment.
"""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from neurogen import store
from neurogen.data.dataset import Dataset
from neurogen.data.preparation import PADDING, Texts
from neurogen.generator.pretrained import load_tokenizer
from neurogen.generator.prompts import GENERIC, task_instruction
from neurogen.study.pipeline import Evaluate, Inject, Tune
from neurogen.targets.fitting import initialised
from neurogen.targets.parameters import ParameterLayout
from neurogen.targets.prediction import accuracy_of, predict
from neurogen.targets.zoo import load_network, load_zoo, network_path
from neurogen.training.runtime import Runtime

CLASSICAL, GENERATED, ZOO, INJECT = "#666666", "#d1495b", "#30638e", "#edae49"
COLOURS = {"inject": INJECT, "tune": GENERATED}
NUM_PICTURES, NUM_TEXTS = 40, 24


def draw_all(step: Evaluate, folder: Path, runtime: Runtime) -> None:
    """curves, weights and predictions of one evaluation, into `folder` and into TensorBoard."""
    from torch.utils.tensorboard import SummaryWriter

    dataset = step.task.load()
    network = initialised(step.task.target, dataset, 0)
    layout = ParameterLayout.of(network)
    zoo = load_zoo(step.zoo, dataset, network)
    count = step.evaluate.num_contexts
    generated = torch.stack([load_network(network_path(step.folder, number), layout) for number in range(count)])
    logits = predict(network.to(runtime.device), layout.tensors(generated[0]), dataset.test, runtime)
    figures = {
        "curves": curves(step),
        "weights": weights(zoo, generated, layout),
        "predictions": predictions(step, dataset, logits),
    }
    point = f"{step.label}-seed{step.seed}-{step.key[:6]}"
    with SummaryWriter(str(folder / f"point-{point}")) as writer:
        task = step.task
        writer.add_text("instruction/stage 1", GENERIC)
        writer.add_text("instruction/stage 2", task_instruction(task.target.title, task.dataset.title))
        for name, part in layout.tensors(generated[0]).items():
            writer.add_histogram(f"generated/{name}", part)
        for name, part in layout.tensors(zoo[0]).items():
            writer.add_histogram(f"zoo/{name}", part)
        for name, figure in figures.items():
            save(figure, folder / f"{name}-{point}")
            writer.add_figure(name, figure)


def save(figure: Figure, path: Path) -> None:
    for suffix in (".png", ".pdf"):
        store.write_file(path.with_name(path.name + suffix), lambda temporary: figure.savefig(temporary, dpi=130))


def curves(step: Evaluate) -> Figure:
    """Loss and validation accuracy over all stages, with the classical networks as a line."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    first = 0.0
    for stage in step.tune.stages:
        history = step.history(stage)
        style: dict[str, Any] = {"color": COLOURS[stage.kind], "label": said_of(stage, step)}
        rows = [row for row in history if "loss" in row]
        loss_axes.plot([first + row["step"] for row in rows], [row["loss"] for row in rows], **style)
        rows = [row for row in history if "validation_accuracy" in row]
        accuracies = [100 * row["validation_accuracy"] for row in rows]
        accuracy_axes.plot([first + row["step"] for row in rows], accuracies, marker="o", markersize=3, **style)
        first += history[-1]["step"]
        for axes in (loss_axes, accuracy_axes):
            axes.axvline(first, color="#dddddd", linewidth=1, zorder=0)
    best = [100 * value for value in step.classical.metrics()["validation_accuracy"]]
    label = f"classical (mean of {len(best)})"
    accuracy_axes.axhline(sum(best) / len(best), color=CLASSICAL, linestyle="--", label=label)
    loss_axes.set(xlabel="step", ylabel="training loss", yscale="log", title="loss")
    accuracy_axes.set(xlabel="step", ylabel="accuracy on validation (%)", ylim=(0, 101), title="accuracy")
    for axes in (loss_axes, accuracy_axes):
        axes.spines[["top", "right"]].set_visible(False)
    loss_axes.legend(frameon=False, fontsize=8)
    accuracy_axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def said_of(stage: Inject | Tune, step: Evaluate) -> str:
    of = "" if step.task in stage.tasks else " of another task"
    if isinstance(stage, Inject):
        return f"stage 1{of} (MSE of z-scores)"
    loss = f"cross-entropy + {stage.stage.anchor:g} MSE" if stage.stage.anchor else "cross-entropy"
    return f"stage 2{of} ({loss})"


def weights(zoo: Any, generated: Any, layout: ParameterLayout) -> Figure:
    """Per tensor, the distribution of the zoo's values and of the generated ones."""
    columns = 4
    num_rows = math.ceil(len(layout.names) / columns)
    figure = Figure(figsize=(2.9 * columns, 2.1 * num_rows), layout="constrained")
    all_axes = figure.subplots(num_rows, columns, squeeze=False).flatten()
    parts = zip(layout.names, layout.shapes, zoo.split(layout.sizes, 1), generated.split(layout.sizes, 1), strict=True)
    for axes, (name, shape, *values) in zip(all_axes, parts, strict=False):
        own, other = (part.flatten().numpy() for part in values)
        low, high = np.quantile(np.concatenate([own, other]), (0.002, 0.998))
        bins = np.linspace(low, high if high > low else low + 1e-6, 50)
        for part, colour, label in ((own, ZOO, "zoo"), (other, GENERATED, "generated")):
            axes.hist(part, bins=bins, density=True, color=colour, alpha=0.55, label=label)
        axes.set_title(f"{name} {'×'.join(map(str, shape))}", fontsize=9)
        axes.set_yticks([])
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right", "left"]].set_visible(False)
    for axes in all_axes[len(layout.names) :]:
        axes.set_visible(False)
    all_axes[0].legend(frameon=False, fontsize=8)
    return figure


def predictions(step: Evaluate, dataset: Dataset, logits: Tensor) -> Figure:
    """Test samples with what the first generated network says; first mistakes, in red, then all classes."""
    said, labels = logits.argmax(1), dataset.test.labels
    is_text = isinstance(dataset.test.samples, Texts)
    count = NUM_TEXTS if is_text else NUM_PICTURES
    wrong = torch.nonzero(said != labels).flatten()[: count // 4]
    right = torch.nonzero(said == labels).flatten()
    some = torch.linspace(0, len(right) - 1, min(len(right), count - len(wrong))).long()
    shown = torch.cat([wrong, right[some]])
    captions = []
    for index in shown.tolist():
        answer, truth = (dataset.class_names[int(which[index])] for which in (said, labels))
        captions.append((answer, "black") if answer == truth else (f"{answer} (is {truth})", GENERATED))
    figure = _texts(step, dataset, shown, captions) if is_text else _pictures(dataset, shown, captions)
    title = f"{100 * accuracy_of(said, labels):.1f} % right on {len(labels):,} test samples"
    figure.suptitle(f"what the first generated network says ({title})", fontsize=10)
    return figure


def _pictures(dataset: Dataset, shown: Tensor, captions: list[tuple[str, str]]) -> Figure:
    columns = 10
    num_rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(1.1 * columns, 1.35 * num_rows + 0.4), layout="constrained")
    all_axes = figure.subplots(num_rows, columns, squeeze=False).flatten()
    for axes in all_axes:
        axes.set_axis_off()
    for axes, image, (caption, colour) in zip(all_axes, dataset.test.samples[shown], captions, strict=False):
        pixels = image.permute(1, 2, 0).numpy()
        axes.imshow(pixels.squeeze(), cmap="gray_r" if pixels.shape[2] == 1 else None)
        axes.set_title(caption, fontsize=8, color=colour)
    return figure


def _texts(step: Evaluate, dataset: Dataset, shown: Tensor, captions: list[tuple[str, str]]) -> Figure:
    assert step.task.embed is not None
    tokenizer = load_tokenizer(step.task.embed.model)
    figure = Figure(figsize=(11, 0.28 * len(shown) + 0.6), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(len(shown), 0))
    for row, (ids, (caption, colour)) in enumerate(zip(dataset.test.samples[shown], captions, strict=True)):
        text = " ".join(tokenizer.decode(ids[ids != PADDING]).split())
        axes.text(0.19, row + 0.5, caption, fontsize=8, color=colour, ha="right", va="center")
        axes.text(0.21, row + 0.5, textwrap.shorten(text, 120), fontsize=8, va="center", parse_math=False)
    return figure
