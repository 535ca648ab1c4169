"""Random numbers of networks that are fitted side by side: threads share torch's global generator."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from threading import Event

import pytest
import torch
from torch import Tensor, nn

from neurogen.data.dataset import Dataset, load_images
from neurogen.data.preparation import ImageShape
from neurogen.rng import global_generator
from neurogen.targets.fitting import draws_at_random, in_training_mode, initialised, takes_channels_last
from tests.conftest import Composed

A_MOMENT = 0.5  # s, in which a thread that no lock stops gets as far as it goes
inside, may_leave = Event(), Event()


class Slow(nn.Sequential):
    """Draws random numbers, and stays in its pass until it may leave."""

    def __init__(self, shape: ImageShape) -> None:
        super().__init__(nn.Flatten(), nn.Dropout(), nn.Linear(shape.channels * shape.height * shape.width, 10))

    def forward(self, images: Tensor) -> Tensor:
        _stay()
        logits: Tensor = super().forward(images)
        return logits


def slow(shape: ImageShape, channels: list[int]) -> nn.Module:
    """A builder that stays inside until it may leave; the options are those of the tiny experiment's."""
    assert channels
    _stay()
    return Slow(shape)


def _stay() -> None:
    inside.set()
    may_leave.wait()


def _initialise(experiment: Composed, dataset: Dataset) -> Callable[[], object]:
    return partial(initialised, experiment(f"target.build={__name__}.slow", "target.version=test").target, dataset, 0)


def _try_channels_last(_: Composed, dataset: Dataset) -> Callable[[], object]:
    return partial(takes_channels_last, Slow(dataset.shape), dataset.train)


def _try_to_draw(_: Composed, dataset: Dataset) -> Callable[[], object]:
    return partial(draws_at_random, Slow(dataset.shape), dataset.train)


@pytest.mark.parametrize("other", [_initialise, _try_channels_last, _try_to_draw])
def test_no_thread_takes_back_what_another_one_drew(
    experiment: Composed, other: Callable[[Composed, Dataset], Callable[[], object]]
) -> None:
    dataset = load_images(experiment().dataset)
    work, networks = other(experiment, dataset), [Slow(dataset.shape)]
    may_leave.set()
    with in_training_mode(networks, dataset.train, 1):
        alone = torch.rand(2)

    with ThreadPoolExecutor(1) as pool:
        with in_training_mode(networks, dataset.train, 1):
            inside.clear()
            may_leave.clear()
            running = pool.submit(work)
            inside.wait(A_MOMENT)
            first = torch.rand(1)
            may_leave.set()
            wait([running], A_MOMENT)
            second = torch.rand(1)
        running.result()
    assert torch.equal(torch.cat([first, second]), alone)


def test_a_seed_of_ours_leaves_the_generators_of_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.manual_seed, which draws the same on a CPU, would seed them too, and nothing would put them back."""
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    before = torch.get_rng_state()
    with global_generator(5):
        drawn = torch.rand(3)
    assert seeded == []
    assert torch.equal(torch.get_rng_state(), before)
    with global_generator():
        torch.manual_seed(5)
        assert torch.equal(torch.rand(3), drawn)


def test_a_builder_may_draw_from_the_global_generator_inside_of_it() -> None:
    with global_generator(1):
        alone = torch.rand(2)
        with global_generator(2):
            torch.rand(1)
        rest = torch.rand(1)
    with global_generator(1):
        assert torch.equal(torch.rand(3), torch.cat([alone, rest]))
