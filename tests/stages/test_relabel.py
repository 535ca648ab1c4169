"""Labels that only the context reveals: a network for other labels is the same one with its rows in another order."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.func import functional_call

from neurogen.data.dataset import load_images
from neurogen.data.preparation import ImageShape, TextShape
from neurogen.errors import UserError
from neurogen.generator.context import Context
from neurogen.generator.prompts import Prompt
from neurogen.stages.contexts import evaluation_contexts
from neurogen.stages.evaluated import Inputs
from neurogen.stages.held_out import is_held_out
from neurogen.stages.relabel import Relabelled
from neurogen.stages.relabel_baselines import matching_order
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from neurogen.targets.networks import build_network, cnn, lenet, mlp, rnn
from neurogen.targets.parameters import ParameterLayout
from neurogen.training.runtime import Runtime
from tests.conftest import TINY_TEXT, Composed
from tests.generator.test_generator import generator_of

IMAGES, TEXTS = ImageShape(1, 16, 16, 5), TextShape(8, 5)
EVERY_TARGET = pytest.mark.parametrize(
    ("network", "inputs"),
    [
        (cnn(IMAGES, [4, 6]), torch.randn(7, 1, 16, 16)),
        (lenet(IMAGES), torch.randn(7, 1, 16, 16)),
        (mlp(TEXTS, 6), torch.randn(7, 4, 8)),
        (rnn(TEXTS, 6), torch.randn(7, 4, 8)),
    ],
)
RELABELLED = (
    "dataset.relabel=random",
    "generator.order=interleaved",
    "generator.context_samples=20",
    "generator.context_warmup=1",
    "recipe.tune.anchor=0.5",
)


@EVERY_TARGET
def test_a_network_for_other_labels_says_the_same_under_other_names(
    network: torch.nn.Module, inputs: torch.Tensor
) -> None:
    layout = ParameterLayout.of(network)
    flat = layout.flatten(dict(network.named_parameters()))
    episode = Relabelled(tuple("abcde"), layout, torch.tensor([3, 0, 4, 1, 2]))
    moved = episode.parameters(flat)
    logits, others = (functional_call(network, layout.tensors(values), (inputs,)) for values in (flat, moved))
    for index in range(5):
        torch.testing.assert_close(others[:, episode.order[index]], logits[:, index])
    assert torch.equal(episode.labels(logits.argmax(1)), others.argmax(1))
    assert torch.equal(episode.restored(moved), flat)
    assert episode.class_names == ("d", "a", "e", "b", "c")


def test_a_target_without_a_row_per_class_is_refused() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(4, 3))
    with pytest.raises(UserError, match=r"needs a row per class .* 0.weight has the shape \[3, 4\] for 5"):
        Relabelled(tuple("abcde"), ParameterLayout.of(network), torch.arange(5)).parameters(torch.zeros(15))


def draw(num_classes: int, rng: torch.Generator, held_out: bool) -> torch.Tensor:
    names = tuple(map(str, range(num_classes)))
    return Relabelled.draw(names, ParameterLayout((), ()), rng, held_out).order


def test_orders_of_training_and_evaluation_never_meet() -> None:
    orders = list(itertools.permutations(range(5)))
    assert 0.1 < sum(map(is_held_out, orders)) / len(orders) < 0.3
    rng = torch.Generator().manual_seed(0)
    drawn = [[draw(5, rng, held_out) for _ in range(200)] for held_out in (False, True)]
    seen, held_out = ({tuple(order.tolist()) for order in orders} for orders in drawn)
    assert not seen & held_out
    assert len(seen) > 50


@pytest.mark.parametrize("num_classes", [4, 5, 10, 300])
def test_there_is_an_order_to_hold_out(num_classes: int) -> None:
    rng = torch.Generator().manual_seed(0)
    assert is_held_out(draw(num_classes, rng, held_out=True).tolist())


def test_two_classes_have_too_few_orders_to_hold_one_out() -> None:
    rng = torch.Generator().manual_seed(0)
    orders = {tuple(draw(2, rng, held_out=True).tolist()) for _ in range(50)}
    assert orders == {(0, 1), (1, 0)}


def test_an_experiment_whose_labels_the_context_reveals(shared_experiment: Composed, runtime: Runtime) -> None:
    """Its zoo is the one of the plain labels, and its networks come out for the classes of the data."""
    (plain,) = steps_of([shared_experiment()]).evaluations
    (evaluation,) = steps_of([shared_experiment(*RELABELLED)]).evaluations
    assert evaluation.zoo.references == plain.zoo.references
    assert evaluation.classical == plain.classical
    for step in in_order(evaluation):
        step.run(runtime)
    populations = evaluation.metrics()["populations"]
    assert len(populations["context_alone"]["accuracy"]) == 2
    assert max(populations["context_alone"]["accuracy"]) > 0.2  # from twenty samples
    names = ("labels_ignored", "labels_inferred", "zoo")
    ignored, inferred, zoo = (populations[name]["accuracy"] for name in names)
    assert max(ignored) < min(zoo)
    assert max(inferred) > 0.7 * max(zoo)


def test_the_order_that_most_samples_speak_for() -> None:
    probabilities = torch.eye(4)[[0, 0, 1, 2, 3, 3]]  # classes; the last one is mistaken for another
    labels = torch.tensor([2, 2, 0, 3, 1, 0])
    assert matching_order(probabilities, labels).tolist() == [2, 0, 3, 1]


def test_a_class_that_only_contexts_of_the_evaluation_show(shared_experiment: Composed, runtime: Runtime) -> None:
    """Neither the zoo nor the generator learns of it; the baseline does, and the test asks for it."""
    (plain,) = steps_of([shared_experiment()]).evaluations
    (evaluation,) = steps_of([shared_experiment(*RELABELLED, "dataset.unseen=['9']")]).evaluations
    assert evaluation.classical == plain.classical
    assert evaluation.zoo.references != plain.zoo.references
    seen, whole = evaluation.task.load_seen(), evaluation.task.load()
    assert set(seen.train.labels.tolist()) == set(seen.validation.labels.tolist()) == set(range(9))
    assert set(whole.train.labels.tolist()) == set(range(10))
    layout = ParameterLayout.of(build_network(evaluation.task.target, whole.shape))
    contexts = evaluation_contexts(evaluation, whole, layout)
    assert all(set(context.context.labels) == set(whole.class_names) for context in contexts)
    for step in in_order(evaluation):
        step.run(runtime)
    inputs = Inputs.of(evaluation, runtime)  # settings are not chosen by it
    assert set(inputs.validation.split.labels.tolist()) == set(range(9))
    assert set(inputs.test.split.labels.tolist()) == set(range(10))
    assert evaluation.result().num_train == len(seen.train) < len(whole.train)
    populations = evaluation.metrics()["populations"]
    assert max(populations["zoo"]["unseen"]) == 0.0
    assert max(populations["classical"]["unseen"]) > 0.3
    assert max(populations["context_alone"]["unseen"]) > 0.0


def test_texts_have_the_zoo_of_their_plain_labels_too(shared_experiment: Composed) -> None:
    plain, relabelled = (
        steps_of([shared_experiment(*TINY_TEXT, *overrides)]).evaluations[0] for overrides in ((), RELABELLED)
    )
    assert relabelled.zoo.references == plain.zoo.references
    assert relabelled.task.embed == plain.task.embed


def test_too_few_samples_for_the_classes_are_refused(shared_experiment: Composed, runtime: Runtime) -> None:
    (evaluation,) = steps_of([shared_experiment(*RELABELLED, "generator.context_samples=9")]).evaluations
    *before, inject, _ = in_order(evaluation.tune)
    for step in before:
        step.run(runtime)
    with pytest.raises(UserError, match=r"there are 10; set generator.context_samples=20 \(now 9\)"):
        inject.run(runtime)


def test_each_row_of_the_output_stands_behind_the_samples_of_its_class(experiment: Composed, runtime: Runtime) -> None:
    """So in a causal model no row depends on the samples of a later class, and the inner tensors on none."""
    point = experiment(*RELABELLED, "backbone.chat_template=false")
    generator, _ = generator_of(point, runtime)
    (task,) = generator.tasks.values()
    dataset = load_images(point.dataset)
    index = torch.cat([(dataset.train.labels == label).nonzero()[:2, 0] for label in range(10)])
    contexts = [Context.of(dataset.train, dataset.class_names, index)]
    other = contexts[0].samples.clone()
    other[8:10] = 255 - other[8:10]  # class 4
    with torch.no_grad():
        z, changed = (
            generator(task.name, [Prompt(task.instruction, Context(samples, contexts[0].labels, dataset.preparation))])[
                0
            ]
            for samples in (contexts[0].samples, other)
        )
    parts, others = task.layout.tensors(z), task.layout.tensors(changed)
    *inner, weight, bias = parts
    assert all(torch.equal(parts[name], others[name]) for name in inner)
    for name in (weight, bias):
        differs = [not torch.equal(before, after) for before, after in zip(parts[name], others[name], strict=True)]
        assert differs == [False] * 4 + [True] * 6
