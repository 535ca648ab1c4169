"""What of a network is generated: each tensor once, buffers too; what cannot be is one line."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from neurogen.config import Modality, TargetConfig
from neurogen.data.dataset import load_images
from neurogen.data.preparation import ImageShape
from neurogen.errors import UserError
from neurogen.progress import Progress
from neurogen.study.graph import Identities, zoo_of
from neurogen.targets.fitting import side_by_side, train_networks
from neurogen.targets.networks import build_network
from neurogen.targets.prediction import Batches
from neurogen.targets.values import buffers_of, fill, integers_of, require_constant, require_determined, values_of
from neurogen.training.runtime import Runtime, runtime_here
from tests.conftest import Composed
from tests.targets.normalised import Tied


class WithIntegers(nn.Sequential):
    """A permutation of the inputs, drawn by each network for itself, or the same in all."""

    def __init__(self, order: torch.Tensor) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 10))
        self.register_buffer("order", order)


def shuffled(shape: ImageShape, channels: list[int]) -> nn.Module:
    """A target that cannot be generated; the options are those of the tiny experiment's."""
    assert channels
    return WithIntegers(torch.randperm(shape.num_classes))


def frozen() -> nn.Module:
    return nn.Linear(2, 2).requires_grad_(False)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (nn.ReLU, "no trainable parameters; give it some"),
        (frozen, "no trainable parameters; give it some"),
        (lambda: nn.Linear(2, 2).double(), r"weight is float64, and generated values are float32; .*module\.float\(\)"),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2).half()), r"1\.weight is float16"),
        (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), r"1\.weight has no shape yet \(a lazy module\)"),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.LazyBatchNorm1d()), "has no shape yet"),
    ],
)
def test_what_cannot_be_generated_is_one_line(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        values_of(build())
    assert "\n" not in str(error.value)


def test_a_tied_tensor_is_a_value_once_and_counters_are_none() -> None:
    network = Tied(ImageShape(1, 8, 8, 10))
    values = values_of(network)
    assert [name for name in values if "once" in name or "twice" in name] == ["once.weight"]
    assert buffers_of(network) == (
        *("stem.1.running_mean", "stem.1.running_var", "norm.running_mean", "norm.running_var"),
    )
    assert list(values)[-2:] == ["head.weight", "head.bias"]
    assert integers_of(network) == {}
    other = Tied(ImageShape(1, 8, 8, 10)).eval()
    fill(other, {name: value.detach() for name, value in values.items()})
    assert other.twice.weight is other.once.weight
    images = torch.randn(3, 1, 8, 8)
    assert torch.equal(other(images), network.eval()(images))
    with pytest.raises(UserError, match="another network's"):
        fill(other, {"once.weight": torch.zeros(4, 4, 3, 3)})


def test_buffers_that_are_not_stored_are_code() -> None:
    network = nn.Linear(2, 2)
    network.register_buffer("waves", torch.ones(3), persistent=False)
    assert list(values_of(network)) == ["weight", "bias"]


def test_integers_may_be_constants_and_nothing_else() -> None:
    fixed = WithIntegers(torch.arange(5))
    assert list(values_of(fixed)) == ["1.weight", "1.bias"]
    require_constant(fixed, WithIntegers(torch.arange(5)))
    with pytest.raises(UserError, match=r"buffer order \(int64\) is not the same in every network"):
        require_constant(fixed, WithIntegers(torch.arange(5).flip(0)))


def test_a_zoo_whose_integers_differ_is_not_trained(experiment: Composed, runtime: Runtime) -> None:
    words = (f"target.build={__name__}.shuffled", "target.version=test")
    (step,) = zoo_of(experiment(*words), Identities()).references
    with pytest.raises(UserError, match="buffer order"):
        step.run(runtime)
    assert not list(step.folder.glob("network-*"))


class Random(nn.Sequential):
    """Something random that is not among the values: of a module, or of a call."""

    def __init__(self, shape: ImageShape, kind: str) -> None:
        super().__init__(nn.Flatten(), nn.Linear(shape.height * shape.width, shape.num_classes))
        self.kind, width = kind, shape.height * shape.width
        self.permutation = torch.randperm(width)
        self.register_buffer("waves", torch.randn(width), persistent=False)
        self.register_buffer("stored", torch.randn(width))
        self.fixed = torch.randn(width, generator=torch.Generator().manual_seed(0))

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        if self.kind == "permutation":
            return super().forward(flat[:, self.permutation])
        if self.kind == "dropout":
            return super().forward(nn.functional.dropout(flat))
        return super().forward(flat * getattr(self, self.kind))


def random_build(shape: ImageShape, channels: list[int], kind: str) -> nn.Module:
    """A builder for the configs of these tests."""
    assert channels
    return Random(shape, kind)


@pytest.mark.parametrize("kind", ["permutation", "waves", "dropout"])
def test_a_zoo_is_not_trained_whose_logits_depend_on_more_than_its_values(
    experiment: Composed, runtime: Runtime, kind: str
) -> None:
    words = (f"target.build={__name__}.random_build", f"+target.options.kind={kind}", "target.version=test")
    (step,) = zoo_of(experiment(*words), Identities()).references
    with pytest.raises(UserError, match="gives other logits for the same values: something random in it is not stored"):
        step.run(runtime)
    assert not list(step.folder.glob("network-*"))


def test_what_is_stored_or_has_a_seed_of_its_own_is_no_obstacle() -> None:
    shape, images = ImageShape(1, 8, 8, 10), torch.randn(2, 1, 8, 8)
    for kind in ("stored", "fixed"):
        require_determined(Random(shape, kind), Random(shape, kind), images)


def test_another_layout_in_memory_is_no_obstacle() -> None:
    shape = ImageShape(3, 32, 32, 10)
    network, other = (
        build_network(TargetConfig("n", "t", Modality.image, "cnn", {"channels": [16, 64]}), shape) for _ in "ab"
    )
    require_determined(network.to(memory_format=torch.channels_last), other, torch.randn(4, 3, 32, 32))


def test_building_a_target_leaves_the_global_rng_alone() -> None:
    before = torch.get_rng_state()
    build_network(TargetConfig("name", "title", Modality.image, "lenet", {}), ImageShape(1, 28, 28, 10))
    assert torch.equal(torch.get_rng_state(), before)


def test_networks_with_dropout_depend_on_their_seeds_alone(experiment: Composed, runtime: Runtime) -> None:
    """Side by side and one by one they draw the same random numbers, and each other ones."""
    dataset = load_images(experiment("dataset.limit=129").dataset)  # 116 to train on: 3 × 38 + 2 and 115 + 1
    validation = Batches(dataset.validation, torch.device("cpu"))

    def trained(threads: int, batch_size: int = 38, orders: tuple[int, ...] = (1, 1, 2)) -> list[nn.Module]:
        torch.manual_seed(0)
        start = Tied(dataset.shape).state_dict()
        networks = [Tied(dataset.shape) for _ in orders]
        for network in networks:
            network.load_state_dict(start)
        config = experiment(f"classical.training.batch_size={batch_size}").classical.training

        def train(group: list[int]) -> list[None]:
            chosen, seeds = [networks[index] for index in group], [orders[index] for index in group]
            with Progress("trained", 1, unit="epochs") as progress:
                train_networks(chosen, dataset.train, validation, config, seeds, runtime, progress)
            return [None for _ in group]

        side_by_side(train, range(len(orders)), runtime_here("cpu", threads))
        return networks

    single, side = trained(1), trained(2)
    for network, other in zip(single, side, strict=True):
        for name, value in network.state_dict().items():
            assert torch.equal(value, other.state_dict()[name])
    assert torch.equal(single[0].head.weight, single[1].head.weight)
    assert not torch.equal(single[0].head.weight, single[2].head.weight)
    assert not any(module.training for module in single[0].modules())
    (network,) = trained(1, batch_size=len(dataset.train) - 1, orders=(1,))  # a rest of one sample has no variance
    assert all(value.isfinite().all() for value in network.state_dict().values())
