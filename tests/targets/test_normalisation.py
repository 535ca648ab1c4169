"""Running statistics as generated values: gradients reach them, and samples replace them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call

from neurogen.data.preparation import ImageShape
from neurogen.generator.losses import tuning_loss
from neurogen.targets.normalisation import gradients_reach_statistics, recalibrated
from neurogen.targets.values import values_of
from tests.targets.normalised import Tied

NAMES = tuple(values_of(Tied(ImageShape(1, 8, 8, 10))))


@pytest.fixture
def network() -> nn.Module:
    """A trained one: its statistics are not those that torch begins with."""
    torch.manual_seed(0)
    made = Tied(ImageShape(1, 8, 8, 10))
    for _ in range(3):
        made(torch.randn(20, 1, 8, 8))
    return made.eval()


def images(count: int = 6) -> torch.Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def detached(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: network.state_dict()[name].clone() for name in NAMES}


def test_written_out_it_is_what_torch_computes(network: nn.Module) -> None:
    values = detached(network)
    with gradients_reach_statistics(values):
        logits = functional_call(network, values, (images(),))
    torch.testing.assert_close(logits, network(images()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["norm.running_mean", "norm.running_var", "stem.1.weight", "once.weight"])
def test_the_gradient_of_the_loss_is_its_slope(network: nn.Module, name: str) -> None:
    network.double()
    values, labels, samples = detached(network), torch.arange(6), images().double()
    leaves = {key: value.clone().requires_grad_() for key, value in values.items()}
    tuning_loss(network, leaves, samples, labels).backward()
    gradient = leaves[name].grad
    assert gradient is not None
    direction, step = gradient / gradient.norm(), 1e-6
    ahead, behind = (
        float(tuning_loss(network, values | {name: values[name] + sign * step * direction}, samples, labels))
        for sign in (1, -1)
    )
    assert (ahead - behind) / (2 * step) == pytest.approx(float(gradient.norm()), rel=1e-4)


def test_recalibrated_statistics_are_those_of_the_samples_layer_by_layer(network: nn.Module) -> None:
    before = detached(network)
    values = recalibrated(network, before, images(200))
    assert values.keys() == before.keys()
    changed = [name for name, value in values.items() if not torch.equal(value, before[name])]
    assert changed == ["stem.1.running_mean", "stem.1.running_var", "norm.running_mean", "norm.running_var"]
    assert all(torch.equal(value, before[name]) for name, value in values_of(network).items())  # itself unchanged
    with torch.no_grad():
        hidden = nn.functional.conv2d(images(200), values["stem.0.weight"], values["stem.0.bias"], stride=2)
        torch.testing.assert_close(values["stem.1.running_mean"], hidden.mean((0, 2, 3)))
        torch.testing.assert_close(values["stem.1.running_var"], hidden.var((0, 2, 3)))
        together = network.train()
        together.dropout.eval()  # type: ignore[union-attr]
        logits = functional_call(together, before, (images(200),))  # normalised by the batch itself
        torch.testing.assert_close(
            functional_call(network.eval(), values, (images(200),)), logits, rtol=1e-2, atol=1e-2
        )


class ByInstance(nn.Module):
    """Normalised by instances in training, and by running statistics afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
        self.head = nn.Linear(4, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.head(self.norm(self.stem(images)).relu().mean((2, 3)))
        return logits


def test_statistics_of_instances_are_generated_and_recalibrated_too() -> None:
    torch.manual_seed(0)
    network = ByInstance()
    network(images(20))
    network.eval()
    values = values_of(network)
    assert {"norm.running_mean", "norm.running_var"} < values.keys()
    leaves = {name: value.detach().clone().requires_grad_() for name, value in values.items()}
    with gradients_reach_statistics(leaves):
        logits = functional_call(network, leaves, (images(),))
    torch.testing.assert_close(logits, network(images()), rtol=1e-5, atol=1e-5)
    logits.square().sum().backward()
    for name in ("norm.running_mean", "norm.running_var"):
        gradient = leaves[name].grad
        assert gradient is not None
        assert gradient.abs().sum() > 0
    new = recalibrated(network, {name: value.detach().clone() for name, value in values.items()}, images(200))
    hidden = network.stem(images(200))
    torch.testing.assert_close(new["norm.running_mean"], hidden.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(new["norm.running_var"], hidden.var((2, 3)).mean(0), rtol=1e-4, atol=1e-5)
