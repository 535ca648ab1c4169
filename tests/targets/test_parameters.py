"""The layout loses nothing, whatever the architecture; the scale is undone exactly."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from neurogen.errors import UserError
from neurogen.targets.parameters import ParameterLayout, Scale

shapes = st.lists(st.lists(st.integers(1, 7), min_size=1, max_size=4).map(tuple), min_size=1, max_size=6).map(tuple)


def layout_of(shapes: tuple[tuple[int, ...], ...]) -> ParameterLayout:
    return ParameterLayout(tuple(f"t{index}" for index in range(len(shapes))), shapes)


@settings(deadline=None)
@given(shapes, st.integers(1, 40))
def test_a_token_belongs_to_one_tensor_and_all_values_fit(shapes: tuple[tuple[int, ...], ...], width: int) -> None:
    layout = layout_of(shapes)
    chunks, positions = layout.chunks(width), layout.positions(width)
    assert len(chunks) * width >= layout.num_parameters
    assert len(positions) == len(set(positions.tolist())) == layout.num_parameters
    owner = torch.arange(len(shapes)).repeat_interleave(torch.tensor(layout.sizes))
    assert [chunks[position // width][0] for position in positions.tolist()] == owner.tolist()


@settings(deadline=None)
@given(shapes, st.integers(1, 40))
def test_chunks_to_tensors_and_back_loses_nothing(shapes: tuple[tuple[int, ...], ...], width: int) -> None:
    layout = layout_of(shapes)
    flat = torch.randn(layout.num_parameters, generator=torch.Generator().manual_seed(0))
    chunks = torch.zeros(len(layout.chunks(width)) * width)
    chunks[layout.positions(width)] = flat
    tensors = layout.tensors(chunks[layout.positions(width)])
    assert [tuple(value.shape) for value in tensors.values()] == list(shapes)
    assert torch.equal(layout.flatten(tensors), flat)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.lists(st.integers(1, 9), max_size=3), st.integers(2, 4), st.integers(1, 50))
def test_gradients_reach_every_parameter_exactly(inputs: int, hidden: list[int], outputs: int, width: int) -> None:
    """d loss / d flat through functional_call equals d loss / d parameters of the module itself."""
    sizes = [inputs, *hidden, outputs]
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    network = nn.Sequential(*[part for layer in layers for part in (layer, nn.Tanh())])
    layout = ParameterLayout.of(network)
    x = torch.randn(6, inputs)
    network(x).square().sum().backward()
    expected = torch.cat([value.grad.reshape(-1) for value in network.parameters() if value.grad is not None])

    chunks = torch.zeros(len(layout.chunks(width)) * width)
    chunks[layout.positions(width)] = layout.flatten({k: v.detach() for k, v in network.named_parameters()})
    chunks.requires_grad_()
    functional_call(network, layout.tensors(chunks[layout.positions(width)]), (x,)).square().sum().backward()
    assert chunks.grad is not None
    torch.testing.assert_close(chunks.grad[layout.positions(width)], expected, rtol=1e-5, atol=1e-6)
    padding = torch.ones(len(chunks), dtype=torch.bool)
    padding[layout.positions(width)] = False
    assert chunks.grad[padding].abs().sum() == 0


@settings(deadline=None)
@given(shapes, st.integers(2, 5))
def test_zscores_of_a_zoo_have_mean_zero_and_deviation_one_and_decode_back(
    shapes: tuple[tuple[int, ...], ...], networks: int
) -> None:
    layout = layout_of(shapes)
    zoo = 3 + 2 * torch.randn(networks, layout.num_parameters, generator=torch.Generator().manual_seed(1))
    scale = Scale.of_zoo(zoo, layout, None)
    z = scale.encode(zoo)
    for part in z.split(layout.sizes, dim=1):
        assert abs(float(part.mean())) < 1e-3
        assert math.isclose(float(part.std(correction=0)), 1, abs_tol=1e-3)
    assert torch.allclose(scale.decode(z), zoo, atol=1e-5)


def test_fan_in_scale_is_that_of_the_weight_before_a_bias() -> None:
    layout = ParameterLayout.of(nn.Sequential(nn.Conv2d(2, 3, 5), nn.Flatten(), nn.Linear(12, 4)))
    assert torch.allclose(Scale.of_fan_in(layout, None).std, torch.tensor([50.0, 50.0, 12.0, 12.0]) ** -0.5)


def test_soft_clipping_bounds_the_weights_and_leaves_small_ones() -> None:
    layout = layout_of(((3,),))
    scale = Scale(layout, torch.zeros(1), torch.ones(1), soft_clip=0.5)
    assert torch.allclose(scale.decode(torch.tensor([1e-3, 100.0, -100.0])), torch.tensor([1e-3, 0.5, -0.5]), atol=1e-6)


def test_a_scale_is_on_a_device_once_and_gradients_go_through_it_whoever_asked_first() -> None:
    layout = layout_of(((2,), (1,)))
    scale = Scale(layout, torch.tensor([1.0, 5.0]), torch.tensor([2.0, 3.0]))
    with torch.inference_mode():
        assert scale.decode(torch.ones(3)).tolist() == [3, 3, 8]
    first = scale.per_parameter(torch.device("cpu"))
    z = torch.ones(3, requires_grad=True)
    scale.decode(z).sum().backward()
    assert z.grad is not None
    assert z.grad.tolist() == [2, 2, 3]
    assert all(a is b for a, b in zip(scale.per_parameter(torch.device("cpu")), first, strict=True))
    assert scale.decode(torch.ones(3, device="meta")).device.type == "meta"


def test_foreign_tensors_are_refused() -> None:
    layout = layout_of(((2, 3),))
    with pytest.raises(UserError, match=r"another network's.*expected.*given"):
        layout.flatten({"t0": torch.zeros(3, 2)})


def with_statistics() -> ParameterLayout:
    return ParameterLayout.of(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 4)))


def networks_with_statistics(count: int) -> list[dict[str, torch.Tensor]]:
    layout, rng = with_statistics(), torch.Generator().manual_seed(2)
    named = [
        {name: torch.randn(shape, generator=rng) for name, shape in zip(layout.names, layout.shapes, strict=True)}
        for _ in range(count)
    ]
    return [values | {"1.running_var": 10 * values["1.running_var"].exp()} for values in named]


def test_statistics_stand_beside_their_layer_and_the_output_layer_is_last() -> None:
    layout = with_statistics()
    assert layout.names[2:6] == ("1.weight", "1.bias", "1.running_mean", "1.running_var")
    assert layout.buffers == layout.names[4:6]
    assert layout.output == [6, 7]
    assert ParameterLayout.of(nn.Linear(2, 2)).buffers == ()


def test_statistics_come_back_and_the_mean_of_variances_is_that_of_stage_1() -> None:
    layout, networks = with_statistics(), networks_with_statistics(4)
    zoo = torch.stack([layout.flatten(values) for values in networks])
    for flat, values in zip(zoo, networks, strict=True):
        for name, value in layout.tensors(flat).items():
            torch.testing.assert_close(value, values[name])
    scale = Scale.of_zoo(zoo, layout, None)
    of_stage_1 = layout.tensors(scale.decode(scale.encode(zoo).mean(0)))
    torch.testing.assert_close(layout.tensors(zoo.mean(0)), of_stage_1)
    variances = torch.stack([values["1.running_var"] for values in networks])
    torch.testing.assert_close(of_stage_1["1.running_var"], variances.log().mean(0).exp())


def test_a_variance_is_positive_whatever_is_generated_and_a_dead_channel_stays_finite() -> None:
    layout, (values, *_) = with_statistics(), networks_with_statistics(1)
    flat = layout.flatten(values | {"1.running_var": torch.zeros(2)})
    assert flat.isfinite().all()
    assert layout.tensors(flat)["1.running_var"].tolist() == pytest.approx([1e-6, 1e-6])
    assert (layout.tensors(-50 * torch.ones(layout.num_parameters))["1.running_var"] > 0).all()


def test_without_a_zoo_normalisation_begins_as_torch_begins_it_and_is_not_clipped() -> None:
    layout = with_statistics()
    scale = Scale.of_fan_in(layout, soft_clip=0.5)
    values = layout.tensors(scale.decode(torch.zeros(layout.num_parameters)))
    assert values["1.running_mean"].tolist() == [0, 0]
    assert values["1.running_var"].tolist() == [1, 1]
    assert (values["1.weight"] > 0.4).all()
    large = layout.tensors(scale.decode(100 * torch.ones(layout.num_parameters)))
    assert (large["1.running_mean"] > 50).all()
    assert large["2.weight"].max() <= 0.5
