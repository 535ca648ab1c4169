"""What a step shows the generator of a task: both, one of the two, or data that the instruction contradicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch

from neurogen.config import Experiment
from neurogen.generator.task import Context, Task
from neurogen.rng import rng_of
from neurogen.stages.task_data import TaskData, shown
from neurogen.study.graph import task_of
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.training.runtime import Runtime
from tests.conftest import TINY_TEXT

Composed = Callable[..., Experiment]
SIZED = "dataset.resize=16"
TOGETHER = ("tasks=together", SIZED)


def subject_of(experiment: Experiment, runtime: Runtime) -> TaskData:
    task = task_of(experiment)
    if task.embed is not None:
        task.embed.run(runtime)
    dataset = task.load()
    network = build_network(task.target, dataset.shape)
    scale = Scale.of_fan_in(ParameterLayout.of(network), None)
    return TaskData(Task.of(dataset, task.dataset, task.target, scale), dataset, network, None)


@pytest.fixture
def task_data(experiment: Composed, runtime: Runtime) -> list[TaskData]:
    """The same data for two networks; other data of the same shape, once with the same title; data of another shape."""
    fewer = ("dataset.name=fewer", "dataset.limit=600")
    points = ((), ("target=lenet",), (*fewer, "dataset.title=fewer digits"), fewer, ("dataset.resize=8",))
    return [subject_of(experiment(*TOGETHER, *point), runtime) for point in points]


def test_a_step_shows_each_as_often_as_asked_for(experiment: Composed, task_data: list[TaskData]) -> None:
    """And is the same kind for all networks of a step, which read samples of their own."""
    overrides = ("drop_instruction=0.1", "drop_data=0.2", "foreign_data=0.3")
    config = experiment(*TOGETHER, *(f"generator.{override}" for override in overrides)).generator
    subject, shares = task_data[0], Counter[str]()
    own = subject.context(torch.arange(50), None, config)
    for number in range(1000):
        both = [
            shown(config, subject, own, task_data, rng_of("step", number), rng_of("network", number, which))
            for which in range(2)
        ]
        kinds = [kind_of(*one, own, task_data) for one in both]
        assert kinds[0] == kinds[1]
        shares[kinds[0]] += 1
        if kinds[0] == "foreign data":
            assert not torch.equal(samples(both[0][1]), samples(both[1][1]))
    expected = {"no instruction": 100, "no data": 200, "foreign data": 300, "both": 400}
    assert {kind: pytest.approx(number, abs=50) for kind, number in expected.items()} == shares


def kind_of(instruction: str, context: Context | None, own: Context, task_data: list[TaskData]) -> str:
    if not instruction:
        assert context is own
        return "no instruction"
    assert instruction == task_data[0].task.instruction
    if context is None or context is own:
        return "both" if context else "no data"
    assert context.preparation is task_data[2].dataset.preparation  # of another title and the same shape
    return "foreign data"


def samples(context: Context | None) -> torch.Tensor:
    assert context is not None
    return context.samples


@pytest.mark.parametrize("of_texts", [False, True])
def test_where_no_other_data_can_stand_a_task_keeps_its_own(
    experiment: Composed, runtime: Runtime, task_data: list[TaskData], of_texts: bool
) -> None:
    config = experiment(*TOGETHER, "generator.foreign_data=1").generator
    subject = subject_of(experiment(*TINY_TEXT), runtime) if of_texts else task_data[4]
    own = subject.context(torch.arange(50), None, config)
    told = shown(config, subject, own, [*task_data, subject], rng_of("step"), rng_of("network"))
    assert told == (subject.task.instruction, own)
