"""The zoo: reference networks w_i ~ W, trained by ordinary gradient descent (paper 3.3.1), and the classical opponent.

Both are trained by the same function with AdamW. The opponent starts from weights of its own, and keeps the epoch that
is best on validation. The networks of a zoo with init=shared are one network for their first epochs and then
differ in data order alone; at a constant learning rate they go round one basin, and their mean, which is what stage 1
can learn, lies in its middle (Izmailov et al. 2018; Wortsman et al. 2022).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int64
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call

from neurogen import rebasin, store
from neurogen.config import TrainingConfig
from neurogen.data.dataset import Dataset, Split, require_same
from neurogen.errors import Interrupted, UserError
from neurogen.networks import build_network
from neurogen.parameters import ParameterLayout
from neurogen.pipeline import Classical, Reference, Zoo
from neurogen.progress import Progress
from neurogen.runtime import Runtime, seed_of

EVALUATION_BATCH = 2048
Result = TypeVar("Result")


def train_reference(step: Reference, runtime: Runtime) -> dict[str, Any]:
    """Train one chunk of the zoo; each network is a file, so that a killed step goes on with the next network."""
    dataset = step.task.load_seen()
    numbers = range(step.first, step.first + step.num_networks)
    if step.init == "shared":
        start = _shared_start(step, dataset, runtime)
        networks = {number: copy.deepcopy(start) for number in numbers}
    else:
        networks = {n: initialised(step.task.target, dataset, seed_of(step.seed, "zoo", n)) for n in numbers}
    orders = {number: seed_of(step.seed, "order", number) for number in numbers}
    return _train_all(step, step.training, dataset, networks, orders, runtime)


def _shared_start(step: Reference, dataset: Dataset, runtime: Runtime) -> nn.Module:
    """Networks that were one for their first epochs stay in one basin: their mean is a network, and a better one."""
    start, epochs = initialised(step.task.target, dataset, seed_of(step.seed, "zoo", 0)), step.shared_epochs
    training, order = replace(step.training, epochs=epochs), seed_of(step.seed, "shared order")
    if epochs:
        with Progress("their shared start", epochs, unit="epochs") as progress:
            side_by_side(lambda _: train_network(start, dataset, training, order, runtime, progress), [0], runtime)
    return start


def train_classical(step: Classical, runtime: Runtime) -> dict[str, Any]:
    """Train the opponents; metrics as of train_reference."""
    dataset = step.task.load_seen()
    numbers = range(step.classical.num_networks)
    networks = {n: initialised(step.task.target, dataset, seed_of(step.seed, "classical", n)) for n in numbers}
    orders = {number: seed_of(step.seed, "classical order", number) for number in numbers}
    return _train_all(step, step.classical.training, dataset, networks, orders, runtime)


def _train_all(
    step: Reference | Classical,
    training: TrainingConfig,
    dataset: Dataset,
    networks: dict[int, nn.Module],
    orders: dict[int, int],
    runtime: Runtime,
) -> dict[str, Any]:
    with Progress(f"{step.kind} networks", training.epochs * len(networks), unit="epochs") as progress:

        def train_one(number: int) -> dict[str, list[float]]:
            path = network_path(step.folder, number)
            curve_path = path.with_suffix(".json")
            if not (path.exists() and curve_path.exists()):
                network = networks[number]
                curve = train_network(network, dataset, training, orders[number], runtime, progress)
                store.write_tensors(path, network.state_dict())
                store.write_json(curve_path, curve)
            else:
                progress.advance(training.epochs)
            found: dict[str, list[float]] = store.read_json(curve_path)
            return found

        curves = side_by_side(train_one, list(networks), runtime)
    kept = [curve["kept_validation_accuracy"][0] for curve in curves]
    return {"fingerprint": dataset.fingerprint, "validation_accuracy": kept, "curves": curves}


def side_by_side(work: Callable[[int], Result], numbers: list[int], runtime: Runtime) -> list[Result]:
    """On a CPU one network per core, each on one thread: the fastest for networks this small, and the bits of a
    network then do not depend on the number of cores. On a GPU one after the other."""
    num_workers = runtime.num_threads if runtime.device.type == "cpu" else 1
    try:
        with ThreadPoolExecutor(num_workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, numbers))
    finally:
        torch.set_num_threads(runtime.num_threads)  # the setting of a thread leaks into the whole process


def initialised(target: Any, dataset: Dataset, seed: int) -> nn.Module:
    """A target network with the initial weights that torch draws from this seed; global generators stay untouched."""
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
    """Train in place by AdamW and keep the epoch that the schedule says. Returns the curves.

    Raises UserError when the loss is no longer finite, Interrupted when the stop flag is set.
    """
    network.to(runtime.device).to(memory_format=torch.channels_last)  # max pooling is faster so
    optimizer = torch.optim.AdamW(network.parameters(), training.lr, weight_decay=training.weight_decay, fused=True)
    cosine = training.schedule == "cosine"
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.epochs) if cosine else None
    generator = torch.Generator().manual_seed(order_seed)
    curve: dict[str, list[float]] = {"loss": [], "validation_loss": [], "validation_accuracy": []}
    kept_accuracy, kept = -1.0, copy.deepcopy(network.state_dict())
    for _ in range(training.epochs):
        order = torch.randperm(len(dataset.train), generator=generator).split(training.batch_size)
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


@torch.no_grad()
def predict(
    network: nn.Module, tensors: dict[str, Tensor], split: Split, runtime: Runtime
) -> Float[Tensor, "samples classes"]:
    """Logits of `network` with these parameters on a whole split."""
    parts = torch.arange(len(split)).split(EVALUATION_BATCH)
    tensors = {name: value.to(runtime.device) for name, value in tensors.items()}
    return torch.cat(
        [functional_call(network, tensors, (split.inputs(part).to(runtime.device),)).cpu() for part in parts]
    )


def evaluate_network(
    network: nn.Module, tensors: dict[str, Tensor], split: Split, runtime: Runtime
) -> tuple[float, float]:
    """(cross-entropy, accuracy as a fraction) of `network` with these parameters on a split."""
    logits = predict(network, tensors, split, runtime)
    return float(nn.functional.cross_entropy(logits, split.labels)), accuracy_of(logits.argmax(1), split.labels)


def accuracy_of(predicted: Int64[Tensor, " samples"], labels: Int64[Tensor, " samples"]) -> float:
    return float((predicted == labels).double().mean())


def network_path(folder: Path, number: int) -> Path:
    return folder / f"network-{number:04d}.safetensors"


def load_network(path: Path, layout: ParameterLayout) -> Float[Tensor, " params"]:
    """The flat parameters in a file. Raises UserError for a missing, truncated or foreign one."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path} is missing or broken ({error}); delete the folder {path.parent} and run again to make it anew"
        ) from error
    try:
        return layout.flatten(tensors)
    except UserError as error:
        raise UserError(f"{path}: {error}; delete the folder {path.parent} and run again to make it anew") from error


def load_zoo(zoo: Zoo, dataset: Dataset, network: nn.Module) -> Float[Tensor, "networks params"]:
    """All reference networks, aligned as asked. Raises UserError when they were trained on other data."""
    layout, rows = ParameterLayout.of(network), []
    for step in zoo.references:
        require_same(dataset, step.metrics()["fingerprint"], step.folder)
        rows += [load_network(network_path(step.folder, step.first + n), layout) for n in range(step.num_networks)]
    found = torch.stack(rows)
    if zoo.align == "rebasin":
        return rebasin.align(network, found, layout, seed=zoo.references[0].seed)
    return found
