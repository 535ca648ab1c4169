"""Rows of the output layer that are made of samples."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neurogen.errors import UserError
from neurogen.targets.prototypes import features, output_layer, output_rows, prototypes, with_rows


def network_of(bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 3, bias=bias))


def tensors_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in network.named_parameters()}


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
def test_features_are_what_the_output_layer_reads(bias: bool) -> None:
    network, inputs = network_of(bias), torch.randn(7, 1, 4, 4)
    weight, offset = output_rows(network, tensors_of(network))
    read = features(network, None, inputs)
    torch.testing.assert_close(read @ weight.T + offset, network(inputs))
    others = {name: 2 * value for name, value in tensors_of(network).items()}
    torch.testing.assert_close(features(network, others, inputs), features(network_of(bias), others, inputs))
    assert not torch.equal(features(network, others, inputs), read)
    assert network[3]._forward_pre_hooks == {}


def test_a_prototype_is_the_direction_of_the_mean_feature() -> None:
    read = torch.tensor([[3.0, 0.0], [1.0, 4.0], [0.0, -2.0]])
    expected = torch.tensor([[2**-0.5, 2**-0.5], [0.0, -1.0]])
    torch.testing.assert_close(prototypes(read, torch.tensor([0, 0, 1]), 2), expected)


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
def test_rows_stand_behind_those_of_the_network(bias: bool) -> None:
    network, inputs = network_of(bias), torch.randn(7, 1, 4, 4)
    rows = torch.randn(2, 5)
    joined = with_rows(network, tensors_of(network), rows, 0.5)
    logits = torch.func.functional_call(network, joined, (inputs,))
    torch.testing.assert_close(logits[:, :3], network(inputs))
    torch.testing.assert_close(logits[:, 3:], features(network, None, inputs) @ rows.T + 0.5 * bias)


def test_a_target_must_end_in_a_linear_layer() -> None:
    with pytest.raises(UserError, match="need a target that ends in a linear layer, and this one ends in Conv2d"):
        output_layer(nn.Sequential(nn.Linear(2, 2), nn.Conv2d(1, 1, 1)))
    assert output_layer(nn.Linear(2, 3))[0] == ""
