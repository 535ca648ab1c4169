"""Target networks fitted by ordinary gradient descent: those of the zoo, and the classical baseline.

in:  an untrained network, a dataset, a training config, a seed for the order of the data
out: the network at the epoch that the schedule keeps; loss and accuracy of every epoch
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor, nn

from neurogen.config import NetworkSchedule, TargetConfig, TrainingConfig
from neurogen.data.dataset import Dataset, Split
from neurogen.errors import Interrupted, UserError
from neurogen.progress import Progress
from neurogen.targets.networks import build_network
from neurogen.targets.prediction import evaluate_network
from neurogen.training.runtime import Runtime

Result = TypeVar("Result")


def side_by_side(work: Callable[[int], Result], indices: list[int], runtime: Runtime) -> list[Result]:
    """`work` on every index. On a CPU one network per core, each on one thread; on a GPU one after the other.

    One thread each is the fastest way for networks this small, and makes the bits of a network independent of the
    number of cores.
    """
    num_workers = runtime.num_threads if runtime.device.type == "cpu" else 1
    try:
        with ThreadPoolExecutor(num_workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, indices))
    finally:
        torch.set_num_threads(runtime.num_threads)  # torch sets it for the whole process


def initialised(target: TargetConfig, dataset: Dataset, seed: int) -> nn.Module:
    """A target network with the initial weights that torch draws from this seed. The global rng stays untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_network(target, dataset.shape)


def train_network(
    network: nn.Module,
    dataset: Dataset,
    training: TrainingConfig,
    order_seed: int,
    runtime: Runtime,
    progress: Progress,
) -> dict[str, list[float]]:
    """Train in place with AdamW and keep the epoch that the schedule says. Returns the curves by name.

    Raises UserError when the loss is no longer finite, Interrupted when the stop flag is set.
    """
    network.to(runtime.device).to(memory_format=torch.channels_last)  # max pooling is faster so
    optimizer = torch.optim.AdamW(network.parameters(), training.lr, weight_decay=training.weight_decay, fused=True)
    cosine = training.schedule == NetworkSchedule.cosine
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.epochs) if cosine else None
    rng = torch.Generator().manual_seed(order_seed)
    curve: dict[str, list[float]] = {"loss": [], "validation_loss": [], "validation_accuracy": []}
    kept_accuracy, kept = -1.0, copy.deepcopy(network.state_dict())
    for _ in range(training.epochs):
        order = torch.randperm(len(dataset.train), generator=rng).split(training.batch_size)
        loss = sum(_update(network, optimizer, dataset.train, index, runtime) for index in order) / len(order)
        if not math.isfinite(loss):
            raise UserError(f"the loss of a target network is {loss}; lower zoo.training.lr or classical.training.lr")
        if schedule is not None:
            schedule.step()
        tensors: dict[str, Tensor] = dict(network.named_parameters())
        validation_loss, accuracy = evaluate_network(network, tensors, dataset.validation, runtime)
        row = {"loss": loss, "validation_loss": validation_loss, "validation_accuracy": accuracy}
        for name, value in row.items():
            curve[name].append(value)
        if accuracy >= kept_accuracy or not cosine:
            kept_accuracy, kept = accuracy, copy.deepcopy(network.state_dict())
        progress.advance(1, f"val. acc. {100 * accuracy:.1f} %")
        if runtime.stop.is_set():
            raise Interrupted
    network.load_state_dict(kept)
    return curve | {"kept_validation_accuracy": [kept_accuracy]}


def _update(
    network: nn.Module, optimizer: torch.optim.Optimizer, split: Split, index: Tensor, runtime: Runtime
) -> float:
    optimizer.zero_grad()
    logits = network(split.inputs(index).to(runtime.device))
    loss = nn.functional.cross_entropy(logits, split.labels[index].to(runtime.device))
    loss.backward()
    optimizer.step()
    return loss.item()
