"""What networks for lists of names say of pictures.

in:  a finished evaluation whose prompts list classes
out: a row of test samples for each list, each with the name that its network gives it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from neurogen import store
from neurogen.report.canvas import Figure
from neurogen.report.captions import caption
from neurogen.report.figures import GENERATED, Screen, show_image
from neurogen.stages.evaluate_lists import LISTS, NEW_NAMES
from neurogen.study.pipeline import Evaluate
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout
from neurogen.targets.prediction import Batches, predict
from neurogen.targets.zoo import load_network, network_path
from neurogen.training.runtime import Runtime

NUM_LISTS, NUM_SAMPLES = 5, 8


@dataclass(frozen=True)
class ListedSamples:
    """Test samples of the classes of a list."""

    names: Sequence[str]  # the list, as plots write it
    samples: UInt8[Tensor, "samples channels height width"]
    labels: Int64[Tensor, " samples"]  # places in the list
    predicted: Int64[Tensor, " samples"]


def listed_samples(step: Evaluate, runtime: Runtime) -> list[ListedSamples]:
    """Some samples of the first lists, under names that training does not read, with the answers of their networks."""
    dataset = step.task.load()
    network = build_network(step.task.target, dataset.shape).to(runtime.device)
    layout = ParameterLayout.of(network)
    listed = []
    for index, description in enumerate(store.read_json(step.folder / LISTS)[:NUM_LISTS]):
        classes: list[int] = description["classes"]
        names = [caption(name, number + 1) for name, number in zip(description["names"], classes, strict=True)]
        chosen, places = chosen_samples(dataset.test.labels, classes)
        of_list = layout.with_rows(len(classes))
        flat = load_network(network_path(step.folder / NEW_NAMES, index), of_list)
        samples = dataset.test.subset(torch.tensor(chosen))
        predicted = predict(network, of_list.tensors(flat), Batches(samples, runtime.device)).argmax(1).cpu()
        listed.append(ListedSamples(names, samples.samples[:], torch.tensor(places), predicted))
    return listed


def chosen_samples(labels: Int64[Tensor, " samples"], classes: Sequence[int]) -> tuple[list[int], list[int]]:
    """(samples, the place of the class of each in the list): the classes in turn, as long as they have samples."""
    of_classes = [(labels == number).nonzero()[:, 0].tolist() for number in classes]
    turns = [divmod(turn, len(classes)) for turn in range(NUM_SAMPLES)]
    pairs = [(of_classes[place][turn], place) for turn, place in turns if turn < len(of_classes[place])]
    return [sample for sample, _ in pairs], [place for _, place in pairs]


def lists(listed: Sequence[ListedSamples], screen: Screen) -> Figure:
    """A row for each list."""
    columns = NUM_SAMPLES // 2 if screen.is_narrow else NUM_SAMPLES
    figure = Figure(figsize=(screen.width, 0.4 + len(listed) * (screen.width / columns + 0.75)), layout="constrained")
    for part, of_list in zip(figure.subfigures(len(listed), 1, squeeze=False)[:, 0], listed, strict=True):
        part.suptitle(screen.wrapped(", ".join(of_list.names)), fontsize=9)
        for column, axes in enumerate(part.subplots(1, columns)):
            if column >= len(of_list.samples):
                axes.set_axis_off()
                continue
            show_image(axes, of_list.samples[column])
            answer = of_list.names[int(of_list.predicted[column])]
            is_right = of_list.predicted[column] == of_list.labels[column]
            axes.set_title(answer, fontsize=7, color="black" if is_right else GENERATED)
    return figure
