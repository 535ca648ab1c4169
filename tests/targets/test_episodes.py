"""Networks that learn to tell any classes apart that they are shown."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from neurogen.config import EpisodesConfig
from neurogen.data.dataset import Split
from neurogen.data.distortion import distorted
from neurogen.data.preparation import Normalisation
from neurogen.errors import UserError
from neurogen.targets.episodes import Episodes
from neurogen.targets.prototypes import features, output_layer

SIDE = 12
CONFIG = EpisodesConfig(ways=4, shots=[1, 2], queries=3)


def split_of(counts: Sequence[int], seed: int = 0) -> Split:
    """Bright squares, at a place of its own for every class."""
    rng = torch.Generator().manual_seed(seed)
    samples = torch.zeros(sum(counts), 1, SIDE, SIDE)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    for sample, label in zip(samples, labels.tolist(), strict=True):
        row, column = divmod(label, 3)
        sample[0, 1 + 3 * row : 4 + 3 * row, 1 + 3 * column : 4 + 3 * column] = 1
    noisy = (samples + 0.2 * torch.rand(samples.shape, generator=rng)).clamp(0, 1)
    return Split((255 * noisy).byte(), labels, Normalisation(torch.full((1, 1, 1), 0.2), torch.full((1, 1, 1), 0.3)))


def network_of() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 5), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 16), nn.ReLU(), nn.Linear(16, 3)
    )


def losses(episodes: Episodes, network: nn.Module, split: Split, updates: int) -> list[float]:
    optimizer = torch.optim.AdamW([*network.parameters(), *episodes.scales], 3e-3)
    measured = []
    for update in range(updates):
        inputs, labels = split.batch(torch.arange(len(split)).roll(update)[:9])
        loss = episodes.loss(0, network, inputs, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        measured.append(float(loss.detach()))
    return measured


def test_both_kinds_of_classes_are_learned_and_the_network_computes_what_was_measured() -> None:
    split, network = split_of([9, 9, 9]), network_of()
    episodes = Episodes(split_of([8] * 9, seed=1), CONFIG, [network], [0])
    measured = losses(episodes, network, split, 120)
    assert sum(measured[-10:]) < 0.5 * sum(measured[:10])
    with torch.no_grad():
        read = nn.functional.normalize(features(network, None, split.inputs()), dim=1)
        _, layer = output_layer(network)
        expected = (read @ nn.functional.normalize(layer.weight, dim=1).T).argmax(1)
        episodes.settle([network])
        assert torch.equal(network(split.inputs()).argmax(1), expected)
    lengths = layer.weight.norm(dim=1)
    torch.testing.assert_close(lengths, lengths.mean().expand(3))
    assert bool((layer.bias == 0).all())


def test_episodes_come_from_their_seed_alone() -> None:
    split, inputs, labels = split_of([8] * 9), torch.zeros(2, 1, SIDE, SIDE), torch.tensor([0, 1])

    def drawn(seed: int) -> list[Tensor]:
        network = network_of()
        episodes = Episodes(split, CONFIG, [network], [seed])
        return [episodes.loss(0, network, inputs, labels).detach() for _ in range(3)]

    assert torch.equal(torch.stack(drawn(1)), torch.stack(drawn(1)))
    assert len({float(loss) for loss in [*drawn(1), *drawn(2)]}) == 6


@pytest.mark.parametrize(
    ("counts", "given"),
    [([8, 8, 8], "3 classes, the smallest with 8"), ([8, 8, 8, 4], "4 classes, the smallest with 4")],
)
def test_too_little_to_show(counts: list[int], given: str) -> None:
    with pytest.raises(UserError, match=f"needs 4 classes of 5 samples .* has {given}"):
        Episodes(split_of(counts), CONFIG, [network_of()], [0])


def test_distorted_pictures_are_others_of_the_same_thing() -> None:
    pictures = split_of([6, 6]).samples
    assert isinstance(pictures, Tensor)
    before = pictures.float() / 255
    after = distorted(before, torch.Generator().manual_seed(0))
    assert after.shape == before.shape
    assert float(after.min()) >= 0
    assert float(after.max()) <= 1
    assert bool(((after - before).abs().amax((1, 2, 3)) > 0.1).all())  # each is changed
    ink = after.sum((1, 2, 3)) / before.sum((1, 2, 3))
    assert float(ink.min()) > 0.3
    assert float(ink.max()) < 3
