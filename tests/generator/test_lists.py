"""Generators whose prompts list classes by name: a row per name, lists of any length, the same when saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from neurogen.config import Experiment
from neurogen.data.dataset import load_images
from neurogen.generator.folder import build_generator, load_generator, save_generator
from neurogen.generator.generator import Generator
from neurogen.generator.known import KnownRows, fitted_variance, rows_in
from neurogen.generator.prompts import Prompt
from neurogen.generator.task import Task
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.training.runtime import Runtime
from tests.conftest import Composed

NAMED = ("preset=named", "dataset.ways=[2,4]")
TASK = "digits-cnn_small"


def generator_of(experiment: Experiment, runtime: Runtime) -> Generator:
    dataset = load_images(experiment.dataset)
    layout = ParameterLayout.of(build_network(experiment.target, dataset.shape))
    task = Task.of(dataset, experiment.dataset, experiment.target, Scale.of_fan_in(layout, None))
    if task.lists_classes:
        task = replace(task, known=KnownRows(torch.randn(10, 33), torch.tensor(2.0)))
    return build_generator(experiment.backbone, experiment.generator, [task], 0, runtime)


def prompts(*lists: tuple[str, ...]) -> list[Prompt]:
    return [Prompt("tell apart:", None, names) for names in lists]


@torch.no_grad()
def test_a_list_of_any_length_gives_a_row_per_name(experiment: Composed, runtime: Runtime) -> None:
    generator = generator_of(experiment(*NAMED), runtime)
    layout = generator.tasks[TASK].layout
    (small,) = generator(TASK, prompts(("one", "two")))
    (large,) = generator(TASK, prompts(("one", "two", "three", "four", "five", "six")))
    rows, others = rows_in(small, layout.with_rows(2)), rows_in(large, layout.with_rows(6))
    assert others.shape == (6, 33)
    torch.testing.assert_close(others[:2], rows, rtol=0, atol=1e-5)  # what follows a name cannot change its row
    assert bool((rows[0] - rows[1]).abs().max() > 1e-4)
    inner = layout.firsts[layout.output[0]]
    torch.testing.assert_close(small[:inner], large[:inner], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_batch_of_lists_gives_what_each_gives_alone(experiment: Composed, runtime: Runtime) -> None:
    generator = generator_of(experiment(*NAMED), runtime)
    lists = [("one", "the digit two"), ("seven", "three"), ("one", "the digit two")]
    together = generator(TASK, prompts(*lists))
    alone = torch.cat([generator(TASK, prompts(names)) for names in lists])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert torch.equal(together[0], together[2])


def test_every_trainable_but_the_patches_gets_a_gradient(experiment: Composed, runtime: Runtime) -> None:
    generator = generator_of(experiment(*NAMED), runtime)
    optimizer = torch.optim.SGD(generator.trainables.values(), 0.1)
    for _ in range(2):  # LoRA's B starts at zero, so A gets its first gradient only after a step
        optimizer.zero_grad()
        generator(TASK, prompts(("one", "two"), ("six", "nine"))).square().sum().backward()
        optimizer.step()
    without = [name for name, value in generator.trainables.items() if value.grad is None or not value.grad.any()]
    assert all(name.startswith("patches.") for name in without)


@torch.no_grad()
def test_saved_and_loaded_it_gives_the_same(experiment: Composed, runtime: Runtime, tmp_path: Path) -> None:
    chosen = experiment(*NAMED)
    generator = generator_of(chosen, runtime)
    save_generator(generator, chosen.backbone, tmp_path)
    loaded = load_generator(tmp_path, runtime)
    lists = prompts(("nought", "sept", "III"))
    assert torch.equal(loaded(TASK, lists), generator(TASK, lists))
    before, after = generator.tasks[TASK].known, loaded.tasks[TASK].known
    assert before is not None
    assert after is not None
    assert torch.equal(after.rows, before.rows)
    assert float(after.variance) == 2.0


def test_a_row_near_a_known_one_is_taken_for_it() -> None:
    known = KnownRows(torch.eye(4), torch.tensor(0.01))
    rows = torch.tensor([[0.0, 0.9, 0.1, 0.0], [0.5, 0.5, 0.0, 0.0]])
    probabilities = known.probabilities(rows)
    assert int(probabilities[0].argmax()) == 1
    assert float(probabilities[0].max()) > 0.99
    torch.testing.assert_close(probabilities[1, :2], torch.tensor([0.5, 0.5]))


def test_the_variance_is_the_greater_the_more_names_are_taken_wrongly() -> None:
    known, rng = KnownRows(10 * torch.eye(5), torch.tensor(1.0)), torch.Generator().manual_seed(0)
    classes = torch.arange(5).repeat(20)
    rows = known.rows[classes] + torch.randn(100, 5, generator=rng)
    right = fitted_variance(known.distances(rows), classes)
    half_wrong = torch.where(torch.arange(100) % 2 == 0, classes, (classes + 1) % 5)
    assert float(fitted_variance(known.distances(rows), half_wrong)) > 5 * float(right)
