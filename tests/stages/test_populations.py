"""What populations are measured by, and the ways to imitate a zoo."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from neurogen.config import Experiment
from neurogen.data.dataset import load_images
from neurogen.stages.populations import (
    Judge,
    Networks,
    as_accurate,
    imitations,
    iou,
    judged,
    mean,
    norms,
    under_noise,
    with_noise,
)
from neurogen.study.graph import steps_of
from neurogen.study.pipeline import in_order
from neurogen.targets.fitting import initialised
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.targets.zoo import load_zoo
from neurogen.training.runtime import Runtime

Composed = Callable[..., Experiment]


@pytest.fixture
def zoo_and_judges(experiment: Composed, runtime: Runtime) -> tuple[Networks, Scale, Judge, Judge]:
    """A zoo of three trained networks, its scale, judges on test and on validation."""
    evaluation = steps_of([experiment("zoo.training.epochs=6")]).evaluations[0]
    for reference in evaluation.zoo.references:
        reference.run(runtime)
    dataset = evaluation.task.load()
    network = initialised(evaluation.task.target, dataset, 0)
    layout = ParameterLayout.of(network)
    zoo = load_zoo(evaluation.zoo, dataset, network)
    test, validation = (Judge(network, layout, split, runtime) for split in (dataset.test, dataset.validation))
    return zoo, Scale.of_zoo(zoo, layout, None), test, validation


def test_iou_of_wrong_predictions() -> None:
    a, b = torch.tensor([True, True, False, False]), torch.tensor([False, True, True, False])
    assert iou(a, b) == pytest.approx(1 / 3)
    assert iou(a, a) == 1
    nothing = torch.zeros(4, dtype=torch.bool)
    assert (iou(nothing, a), iou(nothing, nothing)) == (0, 1)


def test_a_copy_of_the_zoo_is_found_out(zoo_and_judges: tuple[Networks, Scale, Judge, Judge]) -> None:
    zoo, scale, test, _ = zoo_and_judges
    copies, noisy = zoo[[1]].clone(), with_noise(zoo[[1]], scale, 0.3, seed=0)
    found = judged({"zoo": zoo, "copies": copies, "noisy": noisy}, zoo, test)
    assert (found["copies"]["max_iou"], found["copies"]["min_l2"]) == ([1.0], [0.0])
    assert min(found["zoo"]["min_l2"]) > 0  # every network of the zoo is compared with the others
    assert max(found["zoo"]["max_iou"]) < 1
    nearest = min(float((zoo[0] - zoo[n]).norm()) for n in (1, 2))
    assert found["zoo"]["min_l2"][0] == pytest.approx(nearest)
    assert found["noisy"]["min_l2"][0] == pytest.approx(float((noisy[0] - zoo[1]).norm()))
    assert found["noisy"]["max_iou"][0] < 1


def test_imitations_are_as_accurate_as_they_are_asked_to_be(
    zoo_and_judges: tuple[Networks, Scale, Judge, Judge],
) -> None:
    """On validation; the stronger one where several are."""
    zoo, scale, _, validation = zoo_and_judges
    ways = imitations(zoo, scale, count=4, seed=0)
    best = max(validation.accuracies(zoo))
    good, bad = ({name: as_accurate(way, aim, validation) for name, way in ways.items()} for aim in (best, 0.3))
    assert bad["noisy_zoo"] > good["noisy_zoo"]
    assert bad["drawn_zoo"] == max(ways["drawn_zoo"].strengths)
    for name, way in ways.items():
        own = {strength: mean(validation.accuracies(way.make(strength))) for strength in way.strengths}
        nearest = min(abs(accuracy - best) for accuracy in own.values())
        assert good[name] == max(strength for strength in own if abs(own[strength] - best) == nearest)
    assert abs(mean(validation.accuracies(ways["noisy_zoo"].make(bad["noisy_zoo"]))) - 0.3) < 0.15


def test_imitations_are_made_as_they_say(zoo_and_judges: tuple[Networks, Scale, Judge, Judge]) -> None:
    zoo, scale, _, _ = zoo_and_judges
    ways = imitations(zoo, scale, count=4, seed=0)
    assert list(ways["averaged_zoo"].strengths) == [2, 3]
    pairs = [(zoo[one] + zoo[other]) / 2 for one, other in ((0, 1), (0, 2), (1, 2))]
    assert all(any(torch.allclose(flat, pair) for pair in pairs) for flat in ways["averaged_zoo"].make(2.0))
    whole = ways["averaged_zoo"].make(3.0)
    assert len(whole) == 1  # all four would be equal
    assert torch.allclose(whole[0], zoo.mean(0))
    noise = (ways["noisy_zoo"].make(0.5)[:3] - zoo).split(scale.layout.sizes, 1)
    assert all(float(n.std() / std) == pytest.approx(0.5, rel=0.4) for n, std in zip(noise, scale.std, strict=True))
    drawn = ways["drawn_zoo"].make(2.0)
    assert drawn.shape == (4, zoo.shape[1])
    spread = (drawn - zoo.mean(0)).std() / zoo.std(0, correction=0).square().mean().sqrt()
    assert float(spread) == pytest.approx(2, rel=0.05)
    (alone,) = imitations(zoo[:1], scale, 4, 0)["averaged_zoo"].make(1.0)  # a zoo of one network
    assert torch.equal(alone, zoo[0])


def test_a_collapse_shows_in_the_norms(zoo_and_judges: tuple[Networks, Scale, Judge, Judge]) -> None:
    zoo, scale, _, _ = zoo_and_judges
    collapsed = zoo.clone()
    first = scale.layout.sizes[0]
    collapsed[:, :first] *= 0.01
    found = norms({"zoo": zoo, "generated": collapsed}, scale.layout)
    name, other = scale.layout.names[:2]
    assert found[name]["generated"] == pytest.approx([0.01 * value for value in found[name]["zoo"]])
    assert found[other]["generated"] == found[other]["zoo"]


def test_noise_hurts_and_an_ensemble_averages(zoo_and_judges: tuple[Networks, Scale, Judge, Judge]) -> None:
    zoo, scale, test, _ = zoo_and_judges
    found = under_noise({"zoo": zoo}, scale, test, seed=0)
    assert found["0.05"]["zoo"] > found["0.4"]["zoo"]
    said = sum(test.logits(flat).softmax(1) for flat in zoo)
    assert isinstance(said, torch.Tensor)
    expected = float((said.argmax(1) == test.split.labels).double().mean())
    assert test.ensemble_accuracy(zoo) == pytest.approx(expected)


def test_nothing_is_chosen_on_test_samples(experiment: Composed, runtime: Runtime) -> None:
    """With other labels in the test split, an evaluation measures other accuracies, and chooses the same strengths."""
    import neurogen.stages.evaluate as evaluation

    step = steps_of([experiment("recipe.tune.steps=2")]).evaluations[0]
    for one in in_order(step):
        one.run(runtime)
    before = step.metrics()
    dataset = load_images(step.task.dataset)
    dataset.test.labels.copy_((dataset.test.labels + 1) % 10)
    assert before["populations"]["zoo"]["accuracy"][0] > 0.5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neurogen.data.dataset.load_images", lambda config: dataset)
        after = evaluation.evaluate(step, runtime)
    assert after["populations"]["zoo"]["accuracy"][0] < 0.5
    assert after["imitation_strengths"] == before["imitation_strengths"]
    assert after["validation_accuracy"] == before["validation_accuracy"]
