"""Generators whose prompts list classes by name: a row per name, lists of any length, the same when saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from neurogen.config import Experiment
from neurogen.data.dataset import load_images
from neurogen.generator.folder import build_generator, load_generator, save_generator
from neurogen.generator.generator import Generator
from neurogen.generator.known import KnownRows, fitted, rows_in
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
        task = replace(task, known=KnownRows(torch.randn(10, 33), torch.tensor(2.0), torch.tensor(9.0)))
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
    assert (float(after.variance), float(after.limit)) == (2.0, 9.0)


def test_a_row_near_a_known_one_is_taken_for_it() -> None:
    known = KnownRows(torch.eye(4), torch.tensor(0.01), torch.tensor(1.0))
    rows = torch.tensor([[0.0, 0.9, 0.1, 0.0], [0.5, 0.5, 0.0, 0.0], [3.0, -1.0, 0.0, 0.0]])
    probabilities = known.probabilities(rows)
    assert int(probabilities[0].argmax()) == 1
    assert float(probabilities[0].max()) > 0.99
    torch.testing.assert_close(probabilities[1, :2], torch.tensor([0.5, 0.5]))
    assert float(probabilities[2].sum()) < 0.01  # it is far from all of them


ROWS, CLASSES = 10 * torch.eye(5), torch.arange(5).repeat(20)


def test_the_more_names_are_taken_wrongly_the_less_sure_is_any() -> None:
    rng = torch.Generator().manual_seed(0)
    near = ROWS[CLASSES] + torch.randn(100, 5, generator=rng)
    between = 4 * torch.ones(40, 5) + torch.randn(40, 5, generator=rng)
    half_wrong = torch.where(torch.arange(100) % 2 == 0, CLASSES, (CLASSES + 1) % 5)
    sure = fitted(ROWS, near, CLASSES, between).probabilities(near).amax(1)
    unsure = fitted(ROWS, near, half_wrong, between).probabilities(near).amax(1)
    assert float(sure.mean()) > 0.95
    assert 0.3 < float(unsure.mean()) < 0.7


def test_words_that_mean_nothing_are_taken_for_none() -> None:
    """Even where all names are right and every row is nearer to one known row than to the others."""
    rng = torch.Generator().manual_seed(0)
    near = ROWS[CLASSES] + torch.randn(100, 5, generator=rng)
    far = ROWS[CLASSES] + 3 * torch.randn(100, 5, generator=rng)
    known = fitted(ROWS, near, CLASSES, far[:50])
    assert float((known.probabilities(near).amax(1) > 0.5).double().mean()) > 0.95
    assert float((known.probabilities(far[50:]).amax(1) < 0.5).double().mean()) > 0.9


def test_the_fit_maximises_what_it_says() -> None:
    rng = torch.Generator().manual_seed(0)
    rows, named, words = (torch.randn(n, 3, generator=rng) for n in (4, 12, 5))
    classes = torch.randint(4, (12,), generator=rng)

    def likelihood(known: KnownRows) -> float:
        probabilities, nearest = known.probabilities(named), known.distances(named).argmin(1)
        meant = probabilities[torch.arange(12), classes]
        of_names = torch.where(nearest == classes, meant, 1 - probabilities.sum(1))
        return float(of_names.log().mean() + (1 - known.probabilities(words).sum(1)).log().mean())

    best = fitted(rows, named, classes, words)
    others = [KnownRows(rows, v * best.variance, t * best.limit) for v in (0.5, 1, 2) for t in (0.5, 1, 2)]
    assert likelihood(best) >= max(likelihood(other) for other in others) - 1e-4


@pytest.mark.parametrize("nearest_is", ["always meant", "never meant"])
def test_a_fit_where_all_names_are_right_or_wrong_is_finite(nearest_is: str) -> None:
    classes = CLASSES if nearest_is == "always meant" else (CLASSES + 1) % 5
    known = fitted(ROWS, ROWS[CLASSES], classes, torch.zeros(4, 5))
    assert torch.isfinite(known.probabilities(ROWS)).all()
