"""Plots draw whatever data and names a user may give."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import pytest
import torch
from matplotlib.image import AxesImage
from matplotlib.text import Text

from neurogen.data.dataset import load_images
from neurogen.report.canvas import Figure
from neurogen.report.cells import cells_of, row_of
from neurogen.report.figures import NARROW, WIDE, Screen, log_scale, panels, picture_of, show_image
from neurogen.report.list_plots import NUM_SAMPLES, ListedSamples, chosen_samples, lists
from neurogen.report.plots import curves, predictions
from neurogen.report.study_plots import groups_of, learning, memorisation
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from neurogen.study.pipeline import Evaluate
from neurogen.study.results import Population, PopulationResult
from neurogen.training.runtime import Runtime
from tests.conftest import Composed
from tests.generator.test_lists import NAMED
from tests.stages.test_relabel import RELABELLED

NAMES = (r"$\mathds{R}$", "$x^", "猫", "ねこ", "a $ and a $", "five", "six", "seven", "eight", "nine")
SHOWN = (*NAMES[:2], "class 3", "class 4", *NAMES[4:])


def texts_of(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(Text)}


@pytest.mark.parametrize(
    "shape", [(1, 8, 8), (2, 8, 8), (3, 8, 8), (4, 8, 8), (5, 8, 8), (1, 1, 64), (3, 64, 1), (2, 1, 1)]
)
def test_images_of_any_shape_are_drawn(shape: tuple[int, int, int]) -> None:
    figure, (axes,) = panels(WIDE, 1, height=2)
    image = torch.arange(3 * 64 * 5, dtype=torch.uint8)[: shape[0] * shape[1] * shape[2]].reshape(shape)
    show_image(axes, image)
    (drawn,) = axes.images
    array = drawn.get_array()
    assert array is not None
    pixels = torch.from_numpy(array.data)
    assert torch.equal(pixels, image.permute(1, 2, 0) if shape[0] == 3 else image[0])
    figure.draw_without_rendering()


def test_names_of_any_signs_are_drawn(experiment: Composed, tmp_path: Path) -> None:
    """As they are written, without mathematics; by their number where the font has no sign for them."""
    step = steps_of([experiment()]).evaluations[0]
    dataset = replace(load_images(step.task.dataset), class_names=NAMES)
    predicted = dataset.test.labels.clone()
    predicted[:10] = (predicted[:10] + 1) % 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, figure = picture_of(partial(predictions, step, dataset, predicted), tmp_path / "predictions")
    assert all(name in "\n".join(texts_of(figure)) for name in SHOWN)
    listed = ListedSamples(SHOWN[:4], dataset.test.samples[:4], torch.arange(4), torch.tensor([0, 1, 2, 0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, figure = picture_of(partial(lists, [listed]), tmp_path / "lists")
    assert {", ".join(SHOWN[:4]), *SHOWN[:3]} <= texts_of(figure)


@pytest.mark.parametrize("screen", [WIDE, NARROW])
def test_a_list_shows_as_many_samples_as_its_classes_have(screen: Screen) -> None:
    labels = torch.tensor([2, 0, 1, 1, 0, 0, 0, 0])
    assert chosen_samples(labels, [2, 0]) == ([0, 1, 4, 5, 6], [0, 1, 1, 1, 1])
    assert chosen_samples(labels, [1]) == ([2, 3], [0, 0])
    many = torch.arange(100) % 3
    assert chosen_samples(many, [1, 2, 0])[1] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert len(chosen_samples(many, [1, 2, 0])[0]) == NUM_SAMPLES
    images = torch.zeros(2, 2, 8, 8, dtype=torch.uint8)
    figure = lists([ListedSamples(["a"], images, torch.zeros(2).long(), torch.zeros(2).long())], screen)
    assert len(figure.findobj(AxesImage)) == 2


@pytest.mark.parametrize(("values", "ticks"), [((0.01, 20), {"0.1", "1", "10"}), ((1.1, 4), {"2", "3"})])
def test_a_logarithmic_axis_has_plain_numbers(tmp_path: Path, values: tuple[float, float], ticks: set[str]) -> None:
    def draw(screen: Screen) -> Figure:
        figure, (axes,) = panels(screen, 1, height=3)
        axes.plot(values)
        log_scale(axes)
        return figure

    _, figure = picture_of(draw, tmp_path / "loss")
    assert ticks < texts_of(figure)
    assert not any("$" in text for text in texts_of(figure))


class Measured:
    """An evaluation as plots read it."""

    def __init__(self, populations: dict[str, PopulationResult]) -> None:
        self.populations = populations

    def result(self) -> Measured:
        return self


def test_networks_without_an_overlap_have_a_distance(experiment: Composed, tmp_path: Path) -> None:
    none = PopulationResult([1.0, 1.0], max_iou=[None, None], min_l2=[2.0, 3.0])
    some = PopulationResult([1.0, 0.9], max_iou=[None, 0.5], min_l2=[1.0, 4.0])
    evaluation = cast(Evaluate, Measured({Population.ZOO: none, Population.GENERATED: some}))
    ((cell, evaluations),) = cells_of(steps_of([experiment()])).items()
    row = row_of(cell, evaluations)
    _, figure = picture_of(partial(memorisation, row, [evaluation]), tmp_path / "memorisation")
    overlaps, distances = ([len(part.get_offsets().compressed()) for part in axes.collections] for axes in figure.axes)
    assert (overlaps, distances) == ([0, 2], [4, 4])  # coordinates of the marks
    assert {"single zoo network", "generated"} <= texts_of(figure)


OTHER_CLASSES = {"lists": NAMED, "unseen": (*RELABELLED, "dataset.unseen=['9']"), "all": ()}


@pytest.mark.parametrize("classes", OTHER_CLASSES)
def test_classical_curves_stand_beside_those_of_the_same_classes(
    shared_experiment: Composed, runtime: Runtime, tmp_path: Path, classes: str
) -> None:
    """Fewer classes are easier to tell apart, so beside all of them generated networks would seem better."""
    study = steps_of([shared_experiment(*OTHER_CLASSES[classes], "evaluate.num_contexts=3")])
    *before, _ = in_order(study)
    for step in before:
        step.run(runtime)
    cells = cells_of(study)
    rows = [row_of(cell, evaluations) for cell, evaluations in cells.items()]
    evaluations = list(cells.values())
    draws = {"curves": partial(curves, evaluations[0][0]), "learning": partial(learning, rows, evaluations)}
    for name, draw in draws.items():
        _, figure = picture_of(draw, tmp_path / name)
        texts = texts_of(figure)
        assert any(text.startswith("classical (") for text in texts) is (classes == "all")
    assert any("no classical curve" in text for text in texts) is (classes != "all")
    dataset = evaluations[0][0].task.load_seen()
    assert f"digits-cnn_small, {len(dataset.train):,} training samples" in texts


def test_cells_of_other_classes_have_panels_of_their_own(experiment: Composed) -> None:
    points = [experiment(*words) for words in ((), NAMED, RELABELLED)]
    cells = cells_of(steps_of(points))
    rows = [row_of(cell, evaluations) for cell, evaluations in cells.items()]
    groups = groups_of(rows, list(cells.values()))
    assert [(len(group.rows), group.has_classical) for group in groups] == [(2, True), (1, False)]
