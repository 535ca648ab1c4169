"""Re-Basin changes no function, and finds the permutation that was made."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from neurogen.data.preparation import ImageShape
from neurogen.errors import UserError
from neurogen.targets import rebasin
from neurogen.targets.networks import cnn, lenet
from neurogen.targets.parameters import ParameterLayout


def chain_of(sizes: list[int], image: int, convolutions: bool) -> tuple[nn.Module, torch.Tensor]:
    """A random chain with convolutions, a flatten and linear layers, and inputs for it."""
    if convolutions:
        layers: list[nn.Module] = [nn.Conv2d(2, sizes[0], 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
        first = sizes[0] * (image // 2) ** 2
    else:
        layers, first = [nn.Flatten()], 2 * image**2
    for inputs, outputs in zip([first, *sizes], [*sizes, 3], strict=True):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers), torch.randn(8, 2, image, image)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.sampled_from([2, 4]), st.booleans(), st.integers(0, 99))
def test_aligned_networks_compute_what_they_did(sizes: list[int], image: int, convolutions: bool, seed: int) -> None:
    torch.manual_seed(seed)
    network, x = chain_of(sizes, image, convolutions)
    layout = ParameterLayout.of(network)
    zoo = torch.randn(3, layout.num_parameters)
    aligned = rebasin.align(network, zoo, layout, seed=0)
    for before, after in zip(zoo, aligned, strict=True):
        old, new = (functional_call(network, layout.tensors(flat), (x,)) for flat in (before, after))
        torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-4)
    assert torch.equal(aligned[0], zoo[0])
    distance = (zoo - zoo[0]).square().sum(1)
    assert ((aligned - zoo[0]).square().sum(1) <= distance * (1 + 1e-6)).all()


@pytest.mark.parametrize("build", [lambda shape: lenet(shape), lambda shape: cnn(shape, [8, 16, 32])])
def test_a_permuted_copy_is_put_back_in_place(build) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    network = build(ImageShape(1, 28, 28, 10))
    layout = ParameterLayout.of(network)
    tensors = {name: value.detach() for name, value in network.named_parameters()}
    layers = rebasin.chain(network)
    shuffled = tensors
    for layer, following in itertools.pairwise(layers):
        shuffled = rebasin.permuted(layer, following, shuffled, torch.randperm(len(tensors[f"{layer}.weight"])))
    zoo = torch.stack([layout.flatten(tensors), layout.flatten(shuffled)])
    assert not torch.equal(zoo[0], zoo[1])
    assert torch.equal(rebasin.align(network, zoo, layout, seed=0)[1], zoo[0])


def test_what_is_no_chain_is_refused() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

    for network in (Own(), nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), nn.Sequential(nn.PixelShuffle(2))):
        with pytest.raises(UserError, match=r"set zoo\.align=none"):
            rebasin.chain(network)
