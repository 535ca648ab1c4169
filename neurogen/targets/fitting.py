"""Target networks fitted by ordinary gradient descent: those of the zoo, and the classical baseline.

in:  untrained networks, a dataset on their device, a training config, for each network a seed for the order of the data
out: the networks at the epoch that the schedule keeps; loss and accuracy of every epoch

On a CPU every network is trained by itself, one on each core. On a GPU all are trained in lockstep (lockstep.py).

A network is trained in training mode, and judged and left in evaluation mode. One with dropout draws from torch's
global generator, which all threads share: on a CPU such networks are trained one after the other, each from a seed of
its own; on a GPU all draw from one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn

from neurogen.config import NetworkSchedule, TargetConfig, TrainingConfig
from neurogen.data.dataset import Dataset, Split
from neurogen.errors import Interrupted, UserError
from neurogen.progress import Progress
from neurogen.rng import global_generator
from neurogen.study.results import Curve
from neurogen.targets.episodes import Episodes
from neurogen.targets.lockstep import Lockstep, as_graph
from neurogen.targets.networks import build_network, require_classifier
from neurogen.targets.prediction import Batches, judge
from neurogen.targets.values import buffers_of, values_of
from neurogen.training.runtime import Runtime

Result = TypeVar("Result")


def side_by_side(work: Callable[[list[int]], list[Result]], indices: Sequence[int], runtime: Runtime) -> list[Result]:
    """The results of `work` on networks with these indices: on a GPU on all of them at once, on a CPU on one at a time,
    with one network per core, each on one thread.

    On a CPU that is the fastest way for networks this small, and makes the bits of a network independent of the number
    of cores.
    """
    if runtime.device.type != "cpu":
        return work(list(indices))
    try:
        with ThreadPoolExecutor(runtime.num_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return [result for results in pool.map(lambda index: work([index]), indices) for result in results]
    finally:
        torch.set_num_threads(runtime.num_threads)  # torch sets it for the whole process


def initialised(target: TargetConfig, dataset: Dataset, seed: int) -> nn.Module:
    """A target network with the initial weights that torch draws from this seed. The global rng stays untouched.

    Raises UserError for a builder whose network cannot be trained, or does not tell these classes apart.
    """
    with global_generator(seed):
        network = build_network(target, dataset.shape)
        values_of(network)
        require_classifier(network, dataset.shape, dataset.train.inputs(slice(1))[0].cpu())
    return network


def train_networks(
    networks: Sequence[nn.Module],
    train: Split,
    validation: Batches,
    training: TrainingConfig,
    order_seeds: Sequence[int],
    runtime: Runtime,
    progress: Progress,
    episodes: Episodes | None = None,
) -> list[Curve]:
    """Train in place with AdamW and keep of every network the epoch that the schedule says. Returns their curves.

    `train` and `validation` are on the runtime's device. With `episodes` the networks also learn from these.
    Progress counts an epoch of each network. Raises UserError when a loss is no longer finite, Interrupted when the
    stop flag is set.
    """
    is_faster = runtime.device.type == "cpu" and takes_channels_last(networks[0], train)  # max pooling, on a CPU
    for network in networks:
        network.to(runtime.device).to(memory_format=torch.channels_last if is_faster else torch.preserve_format)
    if episodes is None:
        lockstep = Lockstep(networks, train, training, as_graph if runtime.device.type == "cuda" else None)
    else:  # an episode is drawn anew in every update, which a graph cannot do
        lockstep = Lockstep(networks, train, training, None, episodes.loss)
        for optimizer, scale in zip(lockstep.optimizers, episodes.scales, strict=True):
            optimizer.add_param_group({"params": [scale], "weight_decay": 0.0})
    cosine = training.schedule == NetworkSchedule.cosine
    least = 1 if not buffers_of(networks[0]) else 2  # of a single sample there is no variance
    schedules = [
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.epochs)
        for optimizer in (lockstep.optimizers if cosine else ())
    ]
    rngs = [torch.Generator().manual_seed(seed) for seed in order_seeds]
    histories = [History(network, keeps_best=cosine) for network in networks]
    with in_training_mode(networks, train, order_seeds[0]):
        for _ in range(training.epochs):
            orders = torch.stack([torch.randperm(len(train), generator=rng) for rng in rngs])
            for batches in orders.to(runtime.device).split(training.batch_size, dim=1):
                if batches.shape[1] >= least:
                    lockstep.update(batches)
            for schedule in schedules:
                schedule.step()
            if episodes is not None:
                episodes.settle(networks)
            judged = torch.stack([judge(network, {}, validation) for network in networks])
            rows = torch.cat([lockstep.mean_losses().unsqueeze(1), judged], 1).tolist()  # the only wait for a GPU
            for history, row in zip(histories, rows, strict=True):
                history.add(*row)
                progress.advance(1, f"val. acc. {100 * row[-1]:.1f} %")
            if runtime.stop.is_set():
                raise Interrupted
    return [history.end() for history in histories]


@contextmanager
def in_training_mode(networks: Sequence[nn.Module], train: Split, seed: int) -> Iterator[None]:
    """Inside, the networks are in training mode, and where they draw random numbers, these come from the seed."""
    is_random = draws_at_random(networks[0], train)
    devices = [train.labels.device] if train.labels.device.type == "cuda" else []
    with global_generator(seed, devices) if is_random else nullcontext():
        for network in networks:
            network.train()
        try:
            yield
        finally:
            for network in networks:
                network.eval()


@torch.no_grad()
def takes_channels_last(network: nn.Module, train: Split) -> bool:
    """Whether a network runs with this layout: one that flattens with `view`, or has parameters of five axes, does
    not."""
    trial, (inputs, _) = copy.deepcopy(network).cpu().eval(), train.batch(torch.arange(min(2, len(train))))
    try:
        with global_generator():
            trial.to(memory_format=torch.channels_last)(inputs.cpu())
    except RuntimeError:  # of torch; where it has another reason, training meets it too and says so
        return False
    return True


@torch.no_grad()
def draws_at_random(network: nn.Module, train: Split) -> bool:
    """Whether a pass in training mode draws random numbers, as dropout does. The global generator stays untouched."""
    trial, (inputs, _) = copy.deepcopy(network).cpu().train(), train.batch(torch.arange(min(2, len(train))))
    with global_generator():
        before = torch.get_rng_state()
        trial(inputs.cpu())
        return not torch.equal(before, torch.get_rng_state())


class History:
    """The epochs of one network, and with `keeps_best` its values after the one that is best on validation."""

    def __init__(self, network: nn.Module, keeps_best: bool) -> None:
        self.network, self.keeps_best = network, keeps_best
        self.rows: list[tuple[float, float, float]] = []
        self.kept_accuracy = -1.0
        self.kept: dict[str, Tensor] = {}

    def add(self, loss: float, validation_loss: float, validation_accuracy: float) -> None:
        """An epoch. Raises UserError for a loss that is not finite."""
        if not math.isfinite(loss):
            raise UserError(f"the loss of a target network is {loss}; lower zoo.training.lr or classical.training.lr")
        self.rows.append((loss, validation_loss, validation_accuracy))
        if not self.keeps_best:
            self.kept_accuracy = validation_accuracy
        elif validation_accuracy >= self.kept_accuracy:
            self.kept_accuracy, self.kept = validation_accuracy, copy.deepcopy(self.network.state_dict())

    def end(self) -> Curve:
        """Put the kept values into the network. Returns the curves."""
        if self.keeps_best:
            self.network.load_state_dict(self.kept)
        loss, validation_loss, validation_accuracy = (list(column) for column in zip(*self.rows, strict=True))
        return Curve(loss, validation_loss, validation_accuracy, [self.kept_accuracy])
