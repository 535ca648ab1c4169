"""The reference networks w_i ~ W (paper 3.3.1), and the classical baseline: both trained by gradient descent.

in:  the dataset without the classes that the generator must not see; for a zoo that is also shown classes, these
out: one safetensors file and one curve per network

A baseline network starts from weights of its own, and keeps the epoch that is best on validation. The networks of a zoo
with init=shared are one network for their first epochs and then differ in data order alone. At a constant learning rate
they go round one basin, and their mean, which is what stage 1 can learn, lies in its middle (Izmailov et al. 2018;
Wortsman et al. 2022).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from neurogen import store
from neurogen.config import TrainingConfig, ZooInit
from neurogen.data.dataset import Dataset, require_alike
from neurogen.progress import Progress
from neurogen.rng import seed_of
from neurogen.stages.data_report import note_what_was_read
from neurogen.study.pipeline import Classical, Reference
from neurogen.study.results import Curve, TrainedNetworks, from_json, to_json
from neurogen.targets.episodes import Episodes
from neurogen.targets.fitting import initialised, side_by_side, train_networks
from neurogen.targets.prediction import Batches
from neurogen.targets.values import require_constant, require_determined, values_of
from neurogen.targets.zoo import network_path
from neurogen.training.runtime import Runtime

MakeEpisodes = Callable[[Sequence[nn.Module], Sequence[int]], Episodes | None]  # of networks and their seeds


def train_reference(step: Reference, runtime: Runtime) -> dict[str, Any]:
    """Train one chunk of the zoo. Every network is a file, so a step that was killed goes on with the others. On a GPU
    all networks of a chunk end at the same time."""
    dataset = _read(step, runtime)
    episodes = _episodes_of(step, dataset)
    indices = range(step.first, step.first + step.num_networks)
    if step.init == ZooInit.shared:
        start = _shared_start(step, dataset, episodes, runtime)
        networks = {index: copy.deepcopy(start) for index in indices}
    else:
        networks = {i: initialised(step.task.target, dataset, seed_of(step.seed, "zoo", i)) for i in indices}
    orders = {index: seed_of(step.seed, "order", index) for index in indices}
    return _train_all(step, step.training, dataset, networks, orders, runtime, episodes)


def _shared_start(step: Reference, dataset: Dataset, episodes: MakeEpisodes, runtime: Runtime) -> nn.Module:
    """The network that all networks of a zoo with init=shared are for their first epochs."""
    start, epochs = initialised(step.task.target, dataset, seed_of(step.seed, "zoo", 0)), step.shared_epochs
    training, order = replace(step.training, epochs=epochs), seed_of(step.seed, "shared order")
    if epochs:
        with Progress("their shared start", epochs, unit="epochs") as progress:
            validation = Batches(dataset.validation, runtime.device)

            def train(_: list[int]) -> list[Curve]:
                drawn = episodes([start], [order])
                return train_networks([start], dataset.train, validation, training, [order], runtime, progress, drawn)

            side_by_side(train, [0], runtime)
    return start


def train_classical(step: Classical, runtime: Runtime) -> dict[str, Any]:
    """Train the classical baseline. Returns the same metrics as `train_reference`."""
    dataset = _read(step, runtime)
    indices = range(step.classical.num_networks)
    networks = {i: initialised(step.task.target, dataset, seed_of(step.seed, "classical", i)) for i in indices}
    orders = {index: seed_of(step.seed, "classical order", index) for index in indices}
    return _train_all(step, step.classical.training, dataset, networks, orders, runtime, lambda *_: None)


def _read(step: Reference | Classical, runtime: Runtime) -> Dataset:
    """The data without the classes that the generator must not see, on the device."""
    dataset = step.task.load_seen()
    note_what_was_read(dataset, step.folder, runtime)
    return dataset.to(runtime.device)


def _episodes_of(step: Reference, dataset: Dataset) -> MakeEpisodes:
    """What makes the episodes of networks with these seeds; none where the zoo is not shown classes.

    Raises UserError for data whose images have another shape.
    """
    few_shot = step.few_shot
    if few_shot is None or few_shot.episodes is None:
        return lambda *_: None
    others, config = require_alike(dataset, few_shot.task.load()), few_shot.episodes
    split = replace(others.train, preparation=dataset.preparation).to(dataset.train.labels.device)

    def make(networks: Sequence[nn.Module], orders: Sequence[int]) -> Episodes:
        return Episodes(split, config, networks, [seed_of(order, "episodes") for order in orders])

    return make


def _train_all(
    step: Reference | Classical,
    training: TrainingConfig,
    dataset: Dataset,
    networks: dict[int, nn.Module],
    orders: dict[int, int],
    runtime: Runtime,
    episodes: MakeEpisodes,
) -> dict[str, Any]:
    """Train those networks that are not files yet and write them; `orders` are the seeds of their data order."""
    paths = {index: network_path(step.folder, index) for index in networks}
    fresh = initialised(step.task.target, dataset, seed_of(step.seed, "another"))
    first = networks[min(networks)]
    require_constant(first, fresh)
    # a shared start has been trained on the device
    require_determined(copy.deepcopy(first).cpu(), copy.deepcopy(fresh), dataset.train.inputs(slice(4)).cpu())
    undone = [index for index, path in paths.items() if not (path.exists() and path.with_suffix(".json").exists())]
    num_epochs, num_done = training.epochs * len(networks), training.epochs * (len(networks) - len(undone))
    with Progress(f"{step.kind} networks", num_epochs, unit="epochs", first=num_done) as progress:
        validation = Batches(dataset.validation, runtime.device)

        def train(group: list[int]) -> list[Curve]:
            chosen, seeds = [networks[index] for index in group], [orders[index] for index in group]
            drawn = episodes(chosen, seeds)
            curves = train_networks(chosen, dataset.train, validation, training, seeds, runtime, progress, drawn)
            for index, network, curve in zip(group, chosen, curves, strict=True):
                require_constant(network, fresh)
                store.write_tensors(paths[index], values_of(network))
                store.write_json(paths[index].with_suffix(".json"), to_json(curve))
            return curves

        if undone:
            side_by_side(train, undone, runtime)
    files = [path.with_suffix(".json") for path in paths.values()]
    curves = [from_json(Curve, store.read_json(file), file) for file in files]
    kept = [curve.kept_validation_accuracy[0] for curve in curves]
    return dict(to_json(TrainedNetworks(dataset.fingerprint, kept, curves)))
