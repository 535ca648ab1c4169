"""Conditions that are wrong in one respect each, and whether a generator can depend on them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from neurogen.config import Experiment
from neurogen.data import foreign
from neurogen.generator.context import Context
from neurogen.generator.folder import load_generator
from neurogen.generator.generator import Generator
from neurogen.generator.prompts import Prompt
from neurogen.stages.conditioning import change_from, conditions_of, generate_under, relabelled
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.training.runtime import Runtime
from tests.conftest import TINY_TEXT, Composed

DATA = ("labels shuffled", "data of another task", "no data")


def tuned(experiment: Experiment, runtime: Runtime) -> tuple[Generator, list[Context]]:
    """Its generator, and two contexts of its training data."""
    evaluation = steps_of([experiment]).evaluations[0]
    for step in in_order(evaluation.tune):
        step.run(runtime)
    dataset = evaluation.task.load()
    rng = torch.Generator().manual_seed(0)
    contexts = [Context.of(dataset.train, dataset.class_names, dataset.train.sample(4, rng)) for _ in range(2)]
    return load_generator(evaluation.tune.folder, runtime), contexts


@pytest.mark.parametrize("order", ["context_first", "tokens_first"])
def test_a_condition_changes_what_can_depend_on_it(shared_experiment: Composed, runtime: Runtime, order: str) -> None:
    generator, contexts = tuned(shared_experiment(f"generator.order={order}"), runtime)
    (task,) = generator.tasks.values()
    conditions = conditions_of(generator, task, {})
    z = generate_under(conditions, contexts, generator, task, 0, runtime)
    assert next(iter(z)) == "right"
    assert set(DATA) < set(z)
    for name in list(z)[1:]:
        change = change_from(z["right"], z[name], task.scale)
        assert bool((change > 0).all()) is (order == "context_first"), name
    (expected,) = generator(task.name, [Prompt(task.instruction, contexts[1])])
    torch.testing.assert_close(z["right"][1], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("soft_clip", [None, 0.1])
@pytest.mark.parametrize("is_fan_in", [True, False])
def test_a_change_is_measured_in_deviations_of_the_zoo(soft_clip: float | None, *, is_fan_in: bool) -> None:
    """Whatever scale the generator has: of what its networks are, not of what it puts out."""
    layout = ParameterLayout(("weight", "bias"), ((10, 50), (10,)))
    rng = torch.Generator().manual_seed(0)
    zoo = torch.randn(8, 510, generator=rng) * layout.per_parameter(torch.tensor([0.02, 3.0]))
    of_zoo = Scale.of_zoo(zoo, layout, None)
    scale = Scale.of_fan_in(layout, soft_clip) if is_fan_in else Scale.of_zoo(zoo, layout, soft_clip)
    z = torch.randn(2, 3, 510, generator=rng)
    right, other = scale.decode(z)
    deviations = layout.per_parameter(of_zoo.std)
    expected = ((other - right) / deviations).square().mean(1).sqrt()
    torch.testing.assert_close(change_from(right, other, of_zoo), expected)
    if soft_clip is None and not is_fan_in:  # the default: what the generator puts out
        torch.testing.assert_close(expected, (z[1] - z[0]).square().mean(1).sqrt())
    moved = right + deviations
    torch.testing.assert_close(change_from(right, moved, of_zoo), torch.ones(3))


def test_of_texts_too(shared_experiment: Composed, runtime: Runtime) -> None:
    generator, contexts = tuned(shared_experiment(*TINY_TEXT), runtime)
    (task,) = generator.tasks.values()
    conditions = {condition.name: condition for condition in conditions_of(generator, task, {})}
    other = conditions["data of another task"].change(contexts[0], torch.Generator().manual_seed(0))
    assert other is not None
    assert set(other.labels) <= set(foreign.TABLES)
    text = generator.backbone.tokenizer.decode(other.texts[0])
    assert any(sentence.startswith(text[:8]) for sentence in foreign.sentences().samples)
    z = generate_under(list(conditions.values()), contexts, generator, task, 0, runtime)
    assert all(bool((change_from(z["right"], z[name], task.scale) > 0).all()) for name in DATA)


def test_without_a_context_only_the_instruction_can_be_wrong(shared_experiment: Composed, runtime: Runtime) -> None:
    generator, _ = tuned(shared_experiment("generator.context_samples=0"), runtime)
    (task,) = generator.tasks.values()
    assert not set(DATA) & {condition.name for condition in conditions_of(generator, task, {})}


def test_every_label_is_wrong_and_equal_ones_stay_equal(shared_experiment: Composed, runtime: Runtime) -> None:
    generator, contexts = tuned(shared_experiment(), runtime)
    (task,) = generator.tasks.values()
    context = replace(contexts[0], labels=("3", "7", "3", "0"))
    for seed in range(20):
        changed = relabelled(context, task, torch.Generator().manual_seed(seed))
        assert all(before != after for before, after in zip(context.labels, changed.labels, strict=True))
        assert changed.labels[0] == changed.labels[2]
        assert torch.equal(changed.samples, context.samples)
