"""A generator that knows one network begins to generate another."""

from __future__ import annotations

import pytest
import torch

from neurogen.data.preparation import ImageShape
from neurogen.errors import UserError
from neurogen.generator.context import Context
from neurogen.generator.folder import load_generator
from neurogen.generator.prompts import Prompt
from neurogen.generator.transfer import roles_of, rows_by_role, scale_by_role, transferred
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from neurogen.targets.networks import cnn
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.targets.residual import resnet
from neurogen.training.runtime import Runtime
from tests.conftest import Composed

SHAPE = ImageShape(1, 8, 8, 10)
FROM_THREE_BLOCKS = ("target@source=cnn", "recipe.tune.anchor=0", "recipe.tune.lr=2e-3")


def layout(*channels: int) -> ParameterLayout:
    return ParameterLayout.of(cnn(SHAPE, list(channels)))


def test_every_tensor_takes_after_the_one_that_has_its_role() -> None:
    two, three = layout(16, 32), layout(16, 32, 64)
    assert roles_of(three, two) == [0, 1, 2, 3, 6, 7]  # the third block is left out
    assert roles_of(two, three) == [0, 1, 2, 3, 2, 3, 4, 5]  # a new block takes after the last one
    assert roles_of(two, two) == list(range(6))


def test_statistics_take_after_statistics() -> None:
    small, large = (ParameterLayout.of(resnet(SHAPE, blocks)) for blocks in (1, 2))
    for known, new in ((small, large), (large, small)):
        for name, role in zip(new.names, roles_of(known, new), strict=True):
            assert name.rpartition(".")[2] == known.names[role].rpartition(".")[2]
        assert roles_of(known, new)[-2:] == [len(known.names) - 2, len(known.names) - 1]
    assert roles_of(small, small) == list(range(len(small.names)))
    with pytest.raises(UserError, match=r"nothing in the known target is like 1\.weight"):
        roles_of(layout(16), small)


def test_tokens_follow_their_tensor() -> None:
    two, three = layout(16, 32), layout(16, 32, 64)
    chunks, known = two.chunks(64), three.chunks(64)
    rows = rows_by_role(three, two, roles_of(three, two), 64)
    taken = [(known[row].tensor, known[row].position) for row in rows]
    assert taken == [(chunk.tensor + 2 * (chunk.tensor > 3), chunk.position) for chunk in chunks]


def test_weights_with_fewer_inputs_are_larger() -> None:
    two, three = layout(16, 32), layout(16, 32, 64)
    known = Scale(three, torch.arange(8.0), torch.ones(8), None)
    scale = scale_by_role(known, two, roles_of(three, two))
    assert scale.mean.tolist() == [0, 1, 2, 3, 6, 7]
    assert scale.std.tolist() == pytest.approx([1, 1, 1, 1, 2**0.5, 2**0.5])  # 64 inputs there, 32 here


def test_the_same_network_is_generated_where_the_target_is_the_same(
    shared_experiment: Composed, runtime: Runtime
) -> None:
    """Nothing is lost on the way: transferred to its own target, a generator generates what it did."""
    evaluation = steps_of([shared_experiment()]).evaluations[0]
    inject = evaluation.tune.inject
    assert inject is not None
    for step in in_order(inject):
        step.run(runtime)
    generator = load_generator(inject.folder, runtime)
    (task,) = generator.tasks.values()
    same = transferred(generator, task, seed=1)
    dataset = evaluation.task.load()
    context = Context.of(dataset.train, dataset.class_names, dataset.train.sample(4, torch.Generator().manual_seed(0)))
    with torch.no_grad():
        prompts = [Prompt(task.instruction, context)]
        before, after = generator(task.name, prompts), same(task.name, prompts)
    assert torch.equal(before, after)


def test_stage_1_for_one_target_and_stage_2_for_another(shared_experiment: Composed, runtime: Runtime) -> None:
    """Stage 1 is the very step of the other target's own experiment."""
    fit = ("zoo.training.batch_size=64",)  # each target has its own, and a source's zoo that of the target
    (evaluation,) = steps_of([shared_experiment(*FROM_THREE_BLOCKS, *fit)]).evaluations
    inject = steps_of([shared_experiment("target=cnn", *fit)]).evaluations[0].tune.inject
    assert evaluation.tune.inject == inject
    assert evaluation.zoo.references[0].task.target.name == "cnn_small"
    for step in in_order(evaluation):
        step.run(runtime)
    generator = load_generator(evaluation.tune.folder, runtime)
    assert list(generator.tasks) == ["digits-cnn_small"]
    history = evaluation.tune.metrics()["history"]
    assert history[-1]["loss"] < history[1]["loss"]
    assert "after_inject" not in evaluation.metrics()["populations"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("target@source=cnn",), "recipe.tune.anchor=0"),
        ((*FROM_THREE_BLOCKS, "recipe.inject.steps=0", "generator.scale=fan_in"), "recipe.inject.steps=0"),
        (("target@source=rnn", "recipe.tune.anchor=0"), "classifies text"),
        ((*FROM_THREE_BLOCKS, "generator.projection=low_rank"), "generator.projection=shared"),
    ],
)
def test_what_cannot_work_is_refused(experiment: Composed, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        experiment(*overrides)
