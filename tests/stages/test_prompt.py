"""The prompt of a training step: instruction and data, one of the two, or data that the instruction contradicts."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from neurogen.config import Experiment
from neurogen.generator.context import Context
from neurogen.generator.task import Task
from neurogen.rng import rng_of
from neurogen.stages.episode import SameTask
from neurogen.stages.prompt import Prompt, draw_prompt
from neurogen.stages.task_data import TaskData
from neurogen.study.graph import Identities
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.training.runtime import Runtime
from tests.conftest import TINY_TEXT, Composed

SIZED = "dataset.resize=16"
TOGETHER = ("tasks=together", SIZED)


def data_of(experiment: Experiment, runtime: Runtime) -> TaskData:
    task = Identities().task_of(experiment)
    if task.embed is not None:
        task.embed.run(runtime)
    dataset = task.load()
    network = build_network(task.target, dataset.shape)
    scale = Scale.of_fan_in(ParameterLayout.of(network), None)
    return TaskData(Task.of(dataset, task.dataset, task.target, scale), dataset, network, None)


@pytest.fixture
def tasks(shared_experiment: Composed, runtime: Runtime) -> list[TaskData]:
    """The same data for two networks; other data of the same shape, once with the same title; data of another shape."""
    fewer = ("dataset.name=fewer", "dataset.limit=600")
    points = ((), ("target=lenet",), (*fewer, "dataset.title=fewer digits"), fewer, ("dataset.resize=8",))
    return [data_of(shared_experiment(*TOGETHER, *point), runtime) for point in points]


def test_a_step_shows_each_as_often_as_asked_for(shared_experiment: Composed, tasks: list[TaskData]) -> None:
    """And is the same kind for all networks of a step, which read samples of their own."""
    overrides = ("drop_instruction=0.1", "drop_data=0.2", "foreign_data=0.3")
    config = shared_experiment(*TOGETHER, *(f"generator.{override}" for override in overrides)).generator
    data, shares = tasks[0], Counter[str]()
    episode = SameTask(data.task.class_names)
    context = data.context(torch.arange(50), episode, config)
    for step in range(1000):
        prompts = [
            draw_prompt(config, data, episode, context, tasks, rng_of("step", step), rng_of("network", step, network))
            for network in range(2)
        ]
        kinds = [kind_of(prompt, context, tasks) for prompt in prompts]
        assert kinds[0] == kinds[1]
        shares[kinds[0]] += 1
        if kinds[0] == "foreign data":
            assert not torch.equal(samples(prompts[0].context), samples(prompts[1].context))
    expected = {"no instruction": 100, "no data": 200, "foreign data": 300, "both": 400}
    assert {kind: pytest.approx(count, abs=50) for kind, count in expected.items()} == shares


def kind_of(prompt: Prompt, context: Context, tasks: list[TaskData]) -> str:
    if not prompt.instruction:
        assert prompt.context is context
        return "no instruction"
    assert prompt.instruction == tasks[0].task.instruction
    if prompt.context is None or prompt.context is context:
        return "both" if prompt.context else "no data"
    assert prompt.context.preparation is tasks[2].dataset.preparation  # of another title and the same shape
    return "foreign data"


def samples(context: Context | None) -> torch.Tensor:
    assert context is not None
    return context.samples


@pytest.mark.parametrize("of_texts", [False, True])
def test_where_no_other_data_can_stand_a_task_keeps_its_own(
    shared_experiment: Composed, runtime: Runtime, tasks: list[TaskData], of_texts: bool
) -> None:
    config = shared_experiment(*TOGETHER, "generator.foreign_data=1").generator
    data = data_of(shared_experiment(*TINY_TEXT), runtime) if of_texts else tasks[4]
    episode = SameTask(data.task.class_names)
    context = data.context(torch.arange(50), episode, config)
    prompt = draw_prompt(config, data, episode, context, [*tasks, data], rng_of("step"), rng_of("network"))
    assert prompt == Prompt(data.task.instruction, context)
