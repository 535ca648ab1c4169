"""Plots of one evaluation, each as PNG and PDF: learning curves, weight distributions, predictions.

in:  a finished evaluation
out: files in the study's folder; figures and histograms in TensorBoard too, so that one page shows an experiment
"""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
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

Networks = Float[Tensor, "networks params"]


def draw_all(step: Evaluate, folder: Path, runtime: Runtime) -> None:
    """Curves, weights and predictions of one evaluation, into `folder` and into TensorBoard."""
    from torch.utils.tensorboard import SummaryWriter

    dataset = step.task.load()
    network = initialised(step.task.target, dataset, 0)
    layout = ParameterLayout.of(network)
    zoo = load_zoo(step.zoo, dataset, network)
    paths = [network_path(step.folder, index) for index in range(step.evaluate.num_contexts)]
    generated = torch.stack([load_network(path, layout) for path in paths])
    logits = predict(network.to(runtime.device), layout.tensors(generated[0]), dataset.test, runtime)
    figures = {
        "curves": curves(step),
        "weights": weights(zoo, generated, layout),
        "predictions": predictions(step, dataset, logits.argmax(1)),
    }
    point = point_of(step)
    with SummaryWriter(str(folder / f"point-{point}")) as writer:
        writer.add_text("instruction/stage 1", GENERIC)
        writer.add_text("instruction/stage 2", task_instruction(step.task.target.title, step.task.dataset.title))
        for population, flat in (("generated", generated[0]), ("zoo", zoo[0])):
            for name, tensor in layout.tensors(flat).items():
                writer.add_histogram(f"{population}/{name}", tensor)
        for name, figure in figures.items():
            save(figure, folder / f"{name}-{point}")
            writer.add_figure(name, figure)


def point_of(step: Evaluate) -> str:
    """An evaluation as a part of a file's name."""
    return f"{step.label}-seed{step.seed}-{step.key[:6]}"


def save(figure: Figure, path: Path) -> None:
    """As PATH.png and PATH.pdf."""
    for suffix in (".png", ".pdf"):
        store.write_file(path.with_name(path.name + suffix), lambda temporary: figure.savefig(temporary, dpi=130))


def curves(step: Evaluate) -> Figure:
    """Loss and validation accuracy over all stages, with the classical networks as a line."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    first = 0  # step of the whole training at which the stage begins
    for stage in step.tune.stages:
        history = step.history(stage)
        style: dict[str, Any] = {"color": COLOURS[stage.kind], "label": stage_label(stage, step)}
        rows = [row for row in history if row.loss is not None]
        loss_axes.plot([first + row.step for row in rows], [row.loss for row in rows], **style)
        accuracies = {first + row.step: row.validation_accuracy for row in history}
        percent = {place: 100 * accuracy for place, accuracy in accuracies.items() if accuracy is not None}
        accuracy_axes.plot(list(percent), list(percent.values()), marker="o", markersize=3, **style)
        first += history[-1].step
        for axes in (loss_axes, accuracy_axes):
            axes.axvline(first, color="#dddddd", linewidth=1, zorder=0)
    best = [100 * accuracy for accuracy in step.classical.result().validation_accuracy]
    label = f"classical (mean of {len(best)})"
    accuracy_axes.axhline(sum(best) / len(best), color=CLASSICAL, linestyle="--", label=label)
    loss_axes.set(xlabel="step", ylabel="training loss", yscale="log", title="loss")
    accuracy_axes.set(xlabel="step", ylabel="accuracy on validation (%)", ylim=(0, 101), title="accuracy")
    for axes in (loss_axes, accuracy_axes):
        axes.spines[["top", "right"]].set_visible(False)
    loss_axes.legend(frameon=False, fontsize=8)
    accuracy_axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def stage_label(stage: Inject | Tune, step: Evaluate) -> str:
    """The stage and its loss, for a legend."""
    of = "" if step.task in stage.tasks else " of another task"
    if isinstance(stage, Inject):
        return f"stage 1{of} (MSE of z-scores)"
    loss = f"cross-entropy + {stage.stage.anchor:g} MSE" if stage.stage.anchor else "cross-entropy"
    return f"stage 2{of} ({loss})"


def weights(zoo: Networks, generated: Networks, layout: ParameterLayout) -> Figure:
    """Per tensor, the distribution of the zoo's values and of the generated ones."""
    columns = 4
    num_rows = math.ceil(len(layout.names) / columns)
    figure = Figure(figsize=(2.9 * columns, 2.1 * num_rows), layout="constrained")
    all_axes = figure.subplots(num_rows, columns, squeeze=False).flatten()
    tensors = zip(
        layout.names, layout.shapes, zoo.split(layout.sizes, 1), generated.split(layout.sizes, 1), strict=True
    )
    for axes, (name, shape, *parts) in zip(all_axes, tensors, strict=False):
        values = [part.flatten().numpy() for part in parts]
        low, high = np.quantile(np.concatenate(values), (0.002, 0.998))
        bins = np.linspace(low, high if high > low else low + 1e-6, 50)
        for part, colour, label in zip(values, (ZOO, GENERATED), ("zoo", "generated"), strict=True):
            axes.hist(part, bins=bins, density=True, color=colour, alpha=0.55, label=label)
        axes.set_title(f"{name} {'×'.join(map(str, shape))}", fontsize=9)
        axes.set_yticks([])
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right", "left"]].set_visible(False)
    for axes in all_axes[len(layout.names) :]:
        axes.set_visible(False)
    all_axes[0].legend(frameon=False, fontsize=8)
    return figure


def predictions(step: Evaluate, dataset: Dataset, predicted: Int64[Tensor, " samples"]) -> Figure:
    """Test samples with the predictions of the first generated network: first mistakes, in red, then all classes."""
    labels, is_text = dataset.test.labels, isinstance(dataset.test.samples, Texts)
    count = NUM_TEXTS if is_text else NUM_PICTURES
    wrong = torch.nonzero(predicted != labels).flatten()[: count // 4]
    right = torch.nonzero(predicted == labels).flatten()
    spaced = torch.linspace(0, len(right) - 1, min(len(right), count - len(wrong))).long()
    index = torch.cat([wrong, right[spaced]])
    captions = []
    for predicted_label, label in zip(predicted[index].tolist(), labels[index].tolist(), strict=True):
        answer, truth = dataset.class_names[predicted_label], dataset.class_names[label]
        captions.append((answer, "black") if answer == truth else (f"{answer} (is {truth})", GENERATED))
    figure = _texts(step, dataset, index, captions) if is_text else _pictures(dataset, index, captions)
    accuracy = f"{100 * accuracy_of(predicted, labels):.1f} % right on {len(labels):,} test samples"
    figure.suptitle(f"predictions of the first generated network ({accuracy})", fontsize=10)
    return figure


def _pictures(dataset: Dataset, index: Tensor, captions: list[tuple[str, str]]) -> Figure:
    columns = 10
    num_rows = math.ceil(len(index) / columns)
    figure = Figure(figsize=(1.1 * columns, 1.35 * num_rows + 0.4), layout="constrained")
    all_axes = figure.subplots(num_rows, columns, squeeze=False).flatten()
    for axes in all_axes:
        axes.set_axis_off()
    for axes, image, (caption, colour) in zip(all_axes, dataset.test.samples[index], captions, strict=False):
        pixels = image.permute(1, 2, 0).numpy()
        axes.imshow(pixels.squeeze(), cmap="gray_r" if pixels.shape[2] == 1 else None)
        axes.set_title(caption, fontsize=8, color=colour)
    return figure


def _texts(step: Evaluate, dataset: Dataset, index: Tensor, captions: list[tuple[str, str]]) -> Figure:
    assert step.task.embed is not None
    tokenizer = load_tokenizer(step.task.embed.model)
    figure = Figure(figsize=(11, 0.28 * len(index) + 0.6), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(len(index), 0))
    for line, (ids, (caption, colour)) in enumerate(zip(dataset.test.samples[index], captions, strict=True)):
        text = " ".join(tokenizer.decode(ids[ids != PADDING]).split())
        axes.text(0.19, line + 0.5, caption, fontsize=8, color=colour, ha="right", va="center")
        axes.text(0.21, line + 0.5, textwrap.shorten(text, 120), fontsize=8, va="center", parse_math=False)
    return figure
