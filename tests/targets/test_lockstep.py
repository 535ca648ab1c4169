"""Networks that are trained in lockstep: each as if it were alone, as written or replayed."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NoReturn

import pytest
import torch
from torch import Tensor, nn

from neurogen.config import TrainingConfig
from neurogen.data.dataset import Split
from neurogen.data.preparation import ImageShape, Normalisation, Texts, TextShape, TokenEmbedding
from neurogen.progress import Progress
from neurogen.study.results import Curve
from neurogen.targets.fitting import side_by_side, train_networks
from neurogen.targets.lockstep import WARM_UP, Lockstep, Recorded, Work
from neurogen.targets.networks import cnn, mlp, rnn
from neurogen.targets.prediction import Batches
from neurogen.training.runtime import Runtime
from tests.conftest import Composed

NUM_CLASSES, SAMPLES = 3, 50


def images() -> Split:
    """Random ones."""
    rng = torch.Generator().manual_seed(0)
    samples = torch.randint(0, 256, (SAMPLES, 1, 8, 8), dtype=torch.uint8, generator=rng)
    labels = torch.randint(0, NUM_CLASSES, (SAMPLES,), generator=rng)
    return Split(samples, labels, Normalisation.of(samples.numpy()))


def texts() -> Split:
    """Random ones of 1 to 12 tokens."""
    rng = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 13, (SAMPLES,), generator=rng).tolist()
    samples = Texts.of([torch.randint(0, 20, (length,), generator=rng).tolist() for length in lengths])
    labels = torch.randint(0, NUM_CLASSES, (SAMPLES,), generator=rng)
    return Split(samples, labels, TokenEmbedding(torch.randn(20, 6, generator=rng)))


TARGETS: dict[str, tuple[Callable[[], Split], Callable[[], nn.Module]]] = {
    "cnn": (images, lambda: cnn(ImageShape(1, 8, 8, NUM_CLASSES), [4])),
    "mlp": (texts, lambda: mlp(TextShape(6, NUM_CLASSES), 5)),
    "rnn": (texts, lambda: rnn(TextShape(6, NUM_CLASSES), 5)),
}


@pytest.fixture
def training(experiment: Composed) -> TrainingConfig:
    """Batches of 16, so that the last of an epoch, of 2, is smaller."""
    return replace(experiment().classical.training, epochs=5, batch_size=16)


def networks_of(target: str, count: int = 3) -> list[nn.Module]:
    """New ones, each with other weights."""
    torch.manual_seed(0)
    return [TARGETS[target][1]() for _ in range(count)]


def trained(networks: Sequence[nn.Module], split: Split, training: TrainingConfig, runtime: Runtime) -> list[Curve]:
    """Their curves; the training data is the validation data too."""
    seeds = range(len(networks))
    with Progress("test", training.epochs * len(networks), "epochs") as progress:
        validation = Batches(split, runtime.device)
        return train_networks(networks, split, validation, training, seeds, runtime, progress)


def flat(networks: Sequence[nn.Module]) -> Tensor:
    """All parameters, a row for each network."""
    return torch.stack([nn.utils.parameters_to_vector(network.parameters()).detach() for network in networks])


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize("target", TARGETS)
def test_networks_in_lockstep_are_what_they_are_alone(
    target: str, schedule: str, training: TrainingConfig, runtime: Runtime
) -> None:
    """To the last bit: weights and curves. The order of the data is that of a network's seed."""
    training, split = replace(training, schedule=schedule), TARGETS[target][0]()
    together = networks_of(target)
    alone = copy.deepcopy(together)
    curves = trained(together, split, training, runtime)
    with Progress("test", training.epochs * len(alone), "epochs") as progress:
        validation = Batches(split, runtime.device)
        single = [
            train_networks([network], split, validation, training, [seed], runtime, progress)[0]
            for seed, network in enumerate(alone)
        ]
    assert torch.equal(flat(together), flat(alone))
    assert curves == single
    assert len({tuple(curve.loss) for curve in curves}) == len(curves)


def test_a_network_alone_is_what_torch_makes_of_it(training: TrainingConfig, runtime: Runtime) -> None:
    """Against the loop that everybody writes."""
    (network,), split = networks_of("cnn", 1), images()
    expected = copy.deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(expected.parameters(), training.lr, weight_decay=training.weight_decay, fused=True)
    rng, losses = torch.Generator().manual_seed(0), []
    for _ in range(training.epochs):
        order = torch.randperm(SAMPLES, generator=rng).split(training.batch_size)
        total = 0.0
        for index in order:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(expected(split.inputs(index)), split.labels[index])
            loss.backward()
            optimizer.step()
            total += loss.item()
        losses.append(total / len(order))
    (curve,) = trained([network], split, replace(training, schedule="constant"), runtime)
    assert curve.loss == losses
    assert torch.equal(flat([network]), flat([expected]))


def test_a_gpu_has_all_networks_at_once_and_a_core_of_a_cpu_one(runtime: Runtime) -> None:
    groups: list[list[int]] = []

    def work(group: list[int]) -> list[int]:
        groups.append(group)
        return [10 * index for index in group]

    for device in ("cuda", "cpu"):
        assert side_by_side(work, range(3), replace(runtime, device=torch.device(device))) == [0, 10, 20]
    assert groups == [[0, 1, 2], [0], [1], [2]]


def recorded_updates(target: str, training: TrainingConfig, record: Callable[[Work], Work] | None) -> Lockstep:
    """Three networks after as many epochs as show two updates by each graph."""
    split = TARGETS[target][0]()
    lockstep = Lockstep(networks_of(target), split, training, record)
    rng = torch.Generator().manual_seed(0)
    for _ in range(WARM_UP + 2):
        orders = torch.stack([torch.randperm(SAMPLES, generator=rng) for _ in lockstep.networks])
        for batches in orders.split(training.batch_size, dim=1):
            lockstep.update(batches)
    return lockstep


@pytest.mark.parametrize("target", TARGETS)
def test_an_update_that_is_recorded_once_per_size_of_batch_is_the_same(target: str, training: TrainingConfig) -> None:
    """What is replayed reads the tensors that it was recorded with, as a CUDA graph does."""
    recorded: list[Work] = []

    def record(work: Work) -> Work:
        recorded.append(work)
        return work

    replayed, written = (recorded_updates(target, training, how) for how in (record, None))
    assert len(recorded) == 2
    # texts are padded to the longest of all, so sums have other last bits
    torch.testing.assert_close(flat(replayed.networks), flat(written.networks), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(replayed.mean_losses(), written.mean_losses(), rtol=1e-6, atol=1e-6)


def test_what_cannot_be_recorded_is_said_and_goes_on(
    training: TrainingConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: Work) -> Work:
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    refused, written = (recorded_updates("cnn", training, how) for how in (refuse, None))
    assert torch.equal(flat(refused.networks), flat(written.networks))
    said = capsys.readouterr().err
    assert said.count("no CUDA graph of this target") == 2  # for both sizes of batch
    assert "(operation not permitted when stream is capturing)" in said


def test_a_recording_that_is_stopped_is_stopped(training: TrainingConfig, capsys: pytest.CaptureFixture[str]) -> None:
    """Its end raises another error. One of before, in whose handling all this runs, is none of its own."""

    def stop(work: Work) -> Work:
        try:
            work()
        finally:
            raise RuntimeError("unjoined work")

    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    def unfit(*_: object) -> NoReturn:
        raise RuntimeError("waits for results")

    def refuse(_: Work) -> Work:
        raise RuntimeError("not permitted")

    try:
        raise torch.OutOfMemoryError("an earlier run")
    except torch.OutOfMemoryError:
        recorded_updates("cnn", training, refuse)
    assert "no CUDA graph of this target, which makes it slower (not permitted)" in capsys.readouterr().err
    recorded = Recorded(stop)
    batches = torch.zeros(1, 2, dtype=torch.int64)
    for _ in range(WARM_UP):
        recorded(lambda _: None, batches)
    with pytest.raises(KeyboardInterrupt):
        recorded(interrupted, batches)
    with pytest.raises(RuntimeError, match="waits for results"):  # as it is written, it cannot run either
        recorded(unfit, batches)
    assert "which makes it slower (waits for results)" in capsys.readouterr().err


def test_a_recorded_update_is_gone_with_its_networks(training: TrainingConfig) -> None:
    """At once, and not when Python looks for cycles: graphs keep memory of the GPU."""
    gc.disable()
    try:
        lockstep = recorded_updates("cnn", training, lambda work: lambda: None)
        gone = weakref.ref(lockstep)
        del lockstep
        assert gone() is None
    finally:
        gc.enable()


def test_want_of_memory_is_no_reason_to_go_on(training: TrainingConfig) -> None:
    def refuse(_: Work) -> Work:
        raise RuntimeError("CUDA out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        recorded_updates("cnn", training, refuse)


class Viewed(nn.Module):
    """It flattens as tutorials do, which fails where the channels lie last in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        hidden = self.convolution(images).relu()
        logits: Tensor = self.head(hidden.view(len(hidden), -1))
        return logits


class Voluminous(nn.Module):
    """A convolution of three dimensions, whose weight has five axes."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.head = nn.Conv3d(1, 2, 3, padding=1), nn.Linear(2 * 64, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.head(self.convolution(images[:, None]).relu().flatten(1))
        return logits


@pytest.mark.parametrize("build", [Viewed, Voluminous])
def test_networks_that_need_the_channels_first_are_trained(
    training: TrainingConfig, runtime: Runtime, build: type[nn.Module]
) -> None:
    split, networks = images(), [build(), build()]
    before = [copy.deepcopy(network.state_dict()) for network in networks]
    trained(networks, split, training, runtime)
    for network, old in zip(networks, before, strict=True):
        assert not torch.equal(network.state_dict()["head.weight"], old["head.weight"])
