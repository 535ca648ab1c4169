"""Plots of one evaluation: learning curves, weight distributions, predictions.

in:  a finished evaluation
out: PNG and PDF in the study's folder; figures and histograms in TensorBoard too, so that one page shows an experiment;
     pictures for report.html
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from neurogen.data.dataset import Dataset
from neurogen.data.preparation import PADDING, Texts
from neurogen.generator.pretrained import load_tokenizer
from neurogen.generator.prompts import GENERIC, listing_instruction, task_instruction
from neurogen.report.canvas import Figure
from neurogen.report.captions import caption
from neurogen.report.figures import (
    CLASSICAL,
    GENERATED,
    INJECT,
    ZOO,
    Picture,
    Screen,
    log_scale,
    panels,
    picture_of,
    show_image,
)
from neurogen.report.list_plots import listed_samples, lists
from neurogen.study.pipeline import Evaluate, Inject, Tune
from neurogen.study.results import measured
from neurogen.targets.fitting import initialised
from neurogen.targets.parameters import ParameterLayout
from neurogen.targets.prediction import Batches, accuracy_of, predict
from neurogen.targets.zoo import load_network, load_zoo, network_path
from neurogen.training.runtime import Runtime

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

COLOURS = {"inject": INJECT, "tune": GENERATED}
NUM_PICTURES, NUM_TEXTS = 40, 24

Networks = Float[Tensor, "networks params"]
Caption = tuple[str, str]  # text, colour


def draw_all(step: Evaluate, folder: Path, runtime: Runtime) -> dict[str, Picture]:
    """Draw curves, weights and predictions into `folder` and into TensorBoard; the pictures by these names."""
    from neurogen.events import Events

    if step.task.dataset.ways is not None:
        return _draw_lists(step, folder, runtime)
    dataset = step.task.load()
    network = initialised(step.task.target, dataset, 0)
    layout = ParameterLayout.of(network)
    zoo = load_zoo(step.zoo, dataset, network)
    paths = [network_path(step.folder, index) for index in range(step.evaluate.num_contexts)]
    generated = torch.stack([load_network(path, layout) for path in paths])
    batches = Batches(dataset.test, runtime.device)
    predicted = predict(network.to(runtime.device), layout.tensors(generated[0]), batches).argmax(1).cpu()
    plots: dict[str, Callable[[Screen], Figure]] = {
        "curves": partial(curves, step),
        "weights": partial(weights, zoo, generated, layout),
        "predictions": partial(predictions, step, dataset, predicted),
    }
    point = point_of(step)
    with Events(folder / f"point-{point}") as events, events.adding() as writer:
        writer.add_text("instruction/stage 1", GENERIC)
        writer.add_text("instruction/stage 2", task_instruction(step.task.target.title, step.task.dataset.title))
        for population, flat in (("generated", generated[0]), ("zoo", zoo[0])):
            for name, tensor in layout.tensors(flat).items():
                writer.add_histogram(f"{population}/{name}", tensor)
        return _drawn(plots, point, folder, writer)


def _draw_lists(step: Evaluate, folder: Path, runtime: Runtime) -> dict[str, Picture]:
    """Curves, and what networks for lists of names say of samples; the pictures by these names."""
    from neurogen.events import Events

    plots: dict[str, Callable[[Screen], Figure]] = {"curves": partial(curves, step)}
    if step.task.embed is None:
        plots["lists"] = partial(lists, listed_samples(step, runtime))
    point = point_of(step)
    with Events(folder / f"point-{point}") as events, events.adding() as writer:
        writer.add_text("instruction", listing_instruction(step.task.target.title))
        return _drawn(plots, point, folder, writer)


def _drawn(
    plots: dict[str, Callable[[Screen], Figure]], point: str, folder: Path, writer: SummaryWriter
) -> dict[str, Picture]:
    """Every plot in files of `folder` and on TensorBoard's page."""
    pictures = {}
    for name, draw in plots.items():
        pictures[name], figure = picture_of(draw, folder / f"{name}-{point}")
        writer.add_figure(name, figure)
    return pictures


def point_of(step: Evaluate) -> str:
    """An evaluation as a part of a file's name."""
    return f"{step.label}-seed{step.seed}-{step.key[:6]}"


def curves(step: Evaluate, screen: Screen) -> Figure:
    """Loss and validation accuracy over all stages, with the classical networks as a line where their task is the
    same."""
    figure, (loss_axes, accuracy_axes) = panels(screen, 2, height=3.8)
    first = 0  # step of the whole training at which the stage begins
    for stage in step.tune.stages:
        history = step.history(stage)
        style: dict[str, Any] = {"color": COLOURS[stage.kind], "label": stage_label(stage, step)}
        losses, accuracies = (measured(history, name) for name in ("loss", "validation_accuracy"))
        loss_axes.plot([first + x for x, _ in losses], [loss for _, loss in losses], **style)
        percent = [100 * accuracy for _, accuracy in accuracies]
        accuracy_axes.plot([first + x for x, _ in accuracies], percent, marker="o", markersize=3, **style)
        first += history[-1].step
        for axes in (loss_axes, accuracy_axes):
            axes.axvline(first, color="#dddddd", linewidth=1, zorder=0)
    if step.learns_all_classes:
        best = [100 * accuracy for accuracy in step.classical.result().validation_accuracy]
        label = f"classical (mean of {len(best)})"
        accuracy_axes.axhline(sum(best) / len(best), color=CLASSICAL, linestyle="--", label=label)
    loss_axes.set(xlabel="step", ylabel="training loss", title="loss")
    log_scale(loss_axes)
    accuracy_axes.set(xlabel="step", ylabel="accuracy on validation (%)", ylim=(0, 101), title="accuracy")
    loss_axes.legend()
    accuracy_axes.legend(loc="lower right")
    return figure


def stage_label(stage: Inject | Tune, step: Evaluate) -> str:
    """The stage and its loss, for a legend."""
    of = "" if step.task in stage.tasks else " of another task"
    if isinstance(stage, Inject):
        return f"stage 1{of} (MSE of z-scores)"
    loss = f"cross-entropy + {stage.stage.anchor:g} MSE" if stage.stage.anchor else "cross-entropy"
    return f"stage 2{of} ({loss})"


def weights(zoo: Networks, generated: Networks, layout: ParameterLayout, screen: Screen) -> Figure:
    """Per tensor, the distribution of the zoo's values and of the generated ones."""
    figure, all_axes = panels(screen, len(layout.names), height=1.8, scale=2)
    zoo_tensors, generated_tensors = (networks.split(layout.sizes, 1) for networks in (zoo, generated))
    tensors = zip(layout.names, layout.shapes, zoo_tensors, generated_tensors, strict=True)
    for axes, (name, shape, *pair) in zip(all_axes, tensors, strict=True):
        values = [part.flatten().numpy() for part in pair]
        low, high = np.quantile(np.concatenate(values), (0.002, 0.998))
        bins = np.linspace(low, high if high > low else low + 1e-6, 50)
        for part, colour, label in zip(values, (ZOO, GENERATED), ("zoo", "generated"), strict=True):
            axes.hist(part, bins=bins.tolist(), density=True, color=colour, alpha=0.55, label=label)
        axes.set_title(f"{name} {'×'.join(map(str, shape))}", fontsize=8)
        axes.set_yticks([])
        axes.locator_params(axis="x", nbins=5)
        axes.spines["left"].set_visible(False)
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


def predictions(step: Evaluate, dataset: Dataset, predicted: Int64[Tensor, " samples"], screen: Screen) -> Figure:
    """Test samples with the predictions of the first generated network: first mistakes, in red, then all classes."""
    labels, is_text = dataset.test.labels, isinstance(dataset.test.samples, Texts)
    count = NUM_TEXTS if is_text else NUM_PICTURES
    wrong = torch.nonzero(predicted != labels).flatten()[: count // 4]
    right = torch.nonzero(predicted == labels).flatten()
    spaced = torch.linspace(0, len(right) - 1, min(len(right), count - len(wrong))).long()
    index = torch.cat([wrong, right[spaced]])
    names = [caption(name, number) for number, name in enumerate(dataset.class_names, 1)]
    captions = []
    for predicted_label, label in zip(predicted[index].tolist(), labels[index].tolist(), strict=True):
        answer, truth = names[predicted_label], names[label]
        captions.append((answer, "black") if predicted_label == label else (f"{answer}\n(is {truth})", GENERATED))
    draw = _texts if is_text else _pictures
    figure = draw(step, dataset, index, captions, screen)
    if not screen.is_narrow:
        accuracy = f"{100 * accuracy_of(predicted, labels):.1f} % right on {len(labels):,} test samples"
        figure.suptitle(f"predictions of the first generated network ({accuracy})")
    return figure


def _pictures(_: Evaluate, dataset: Dataset, index: Tensor, captions: list[Caption], screen: Screen) -> Figure:
    size = screen.width / screen.columns / 5
    figure, all_axes = panels(screen, len(index), height=size + 0.35, scale=5)
    for axes, image, (text, colour) in zip(all_axes, dataset.test.samples[index], captions, strict=True):
        show_image(axes, image)
        axes.set_title(text, fontsize=8, color=colour)
    return figure


def _texts(step: Evaluate, dataset: Dataset, index: Tensor, captions: list[Caption], screen: Screen) -> Figure:
    """A line per text; on a narrow screen the text stands below its caption."""
    assert step.task.embed is not None
    tokenizer = load_tokenizer(step.task.embed.model)
    figure = Figure(
        figsize=(screen.width, (0.6 if screen.is_narrow else 0.28) * len(index) + 0.6), layout="constrained"
    )
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(len(index), 0))
    for line, (ids, (answer, colour)) in enumerate(zip(dataset.test.samples[index], captions, strict=True)):
        text = textwrap.shorten(" ".join(tokenizer.decode(ids[ids != PADDING]).split()), 105)
        style: dict[str, Any] = {"va": "top" if screen.is_narrow else "center"}
        if screen.is_narrow:
            axes.text(0, line, answer.replace("\n", " "), color=colour, weight="bold", **style)
            axes.text(0, line + 0.28, textwrap.fill(text, 55), **style)
        else:
            axes.text(0.19, line + 0.5, answer.replace("\n", " "), color=colour, ha="right", **style)
            axes.text(0.21, line + 0.5, text, **style)
    return figure
