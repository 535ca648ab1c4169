"""Section `zoo`: ways to train the networks of a zoo on one GPU.

in:  eight LeNets on mnist5k in batches of 64, as the default zoo has them (on a CPU two small CNNs)
out: seconds of one update of all of them: as the program does it now, validation and recording included; and the ways
     to choose from: one after the other, as one network by vmap, on a stream each, and these once more, recorded as a
     CUDA graph
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from benchmarks.setting import DEVICE, ON_GPU, report
from benchmarks.stages import experiment_of, runtime_on
from benchmarks.timing import Timing, Work, timed
from neurogen.config import Experiment
from neurogen.data.dataset import Dataset, load_images
from neurogen.progress import Progress
from neurogen.study.results import Curve
from neurogen.targets.fitting import initialised, side_by_side, train_networks
from neurogen.targets.prediction import Batches
from neurogen.training.numerics import Numerics
from neurogen.training.runtime import Runtime

SETTING = ["dataset=mnist5k", "target=lenet", "zoo.training.epochs=15"] if ON_GPU else ["dataset.limit=300"]
NUM_NETWORKS = 8 if ON_GPU else 2
UPDATES = 20 if ON_GPU else 2  # per measurement
REPEATS = 5 if ON_GPU else 1
LR = 4e-3


def measure(folder: Path, case: str) -> None:
    """One update of each of eight LeNets, in every way."""
    experiment = experiment_of(folder, *SETTING)
    dataset = load_images(experiment.dataset)
    zoo = Zoo.of(experiment, dataset)
    ways: dict[str, Work] = {"one after the other": zoo.one_after_the_other, "vmap": zoo.by_vmap}
    if ON_GPU:
        ways["a stream each"] = zoo.on_streams
    report(ways=timed({name: repeated(way) for name, way in ways.items()}, REPEATS, UPDATES))
    report(**as_it_is(experiment, dataset))
    if ON_GPU:
        report(graphs={name: as_graph(way) for name, way in ways.items()})


def as_it_is(experiment: Experiment, dataset: Dataset) -> dict[str, Timing]:
    """The whole training of the zoo, as a step of the program does it, also with deterministic=true."""
    training, runtime = experiment.zoo.training, runtime_on(dtype=torch.float32)
    updates = training.epochs * math.ceil(len(dataset.train) / training.batch_size)
    train = training_of(experiment, dataset, runtime)

    def all_with(numerics: Numerics) -> None:
        with numerics.applied():
            side_by_side(train, range(NUM_NETWORKS), runtime)

    kinds = {"now": Numerics(), "deterministic": Numerics(deterministic=True)}
    works = {name: partial(all_with, numerics) for name, numerics in kinds.items()}
    return timed(works, 3 if ON_GPU else 1, updates)


def training_of(experiment: Experiment, dataset: Dataset, runtime: Runtime) -> Callable[[list[int]], list[Curve]]:
    """What trains networks with these seeds as a step of the program does it."""
    training, placed = experiment.zoo.training, dataset.to(runtime.device)
    validation = Batches(placed.validation, runtime.device)

    def train(seeds: list[int]) -> list[Curve]:
        networks = [initialised(experiment.target, dataset, seed) for seed in seeds]
        with Progress("zoo", training.epochs * len(seeds), "epochs") as progress:
            return train_networks(networks, placed.train, validation, training, seeds, runtime, progress)

    return train


@dataclass(frozen=True)
class Zoo:
    """Networks on the device, once each by itself and once stacked, and a fixed batch of the data for each."""

    networks: list[nn.Module]
    optimizers: list[torch.optim.Optimizer]
    stacked: dict[str, Tensor]  # of every parameter those of all networks, [networks, ...]
    stacked_optimizer: torch.optim.Optimizer
    gradients: Callable[..., tuple[dict[str, Tensor], Tensor]]  # of the stacked parameters
    inputs: Tensor  # [samples, ...]
    labels: Tensor  # [samples]
    batches: Tensor  # [networks, batch] into the samples
    streams: list[torch.cuda.Stream]

    @staticmethod
    def of(experiment: Experiment, dataset: Dataset) -> Zoo:
        """A zoo of this experiment, on the device."""
        networks = [initialised(experiment.target, dataset, seed).to(DEVICE) for seed in range(NUM_NETWORKS)]
        values = stack_module_state(networks)[0]
        stacked = {name: value.detach().clone().requires_grad_() for name, value in values.items()}

        def loss(parameters: dict[str, Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
            return nn.functional.cross_entropy(functional_call(networks[0], parameters, (inputs,)), labels)

        size = NUM_NETWORKS, experiment.zoo.training.batch_size
        return Zoo(
            networks=networks,
            optimizers=[optimizer_of(list(network.parameters())) for network in networks],
            stacked=stacked,
            stacked_optimizer=optimizer_of(list(stacked.values())),
            gradients=vmap(grad_and_value(loss)),
            inputs=dataset.train.inputs().to(DEVICE),
            labels=dataset.train.labels.to(DEVICE),
            batches=torch.randint(0, len(dataset.train), size, device=DEVICE),
            streams=[torch.cuda.Stream() for _ in networks] if ON_GPU else [],
        )

    def update(self, index: int) -> None:
        """One update of one network."""
        batch = self.batches[index]
        logits = self.networks[index](self.inputs[batch])
        nn.functional.cross_entropy(logits, self.labels[batch]).backward()
        self.optimizers[index].step()
        self.optimizers[index].zero_grad(set_to_none=False)

    def one_after_the_other(self) -> None:
        """A forward and a backward pass per network."""
        for index in range(len(self.networks)):
            self.update(index)

    def by_vmap(self) -> None:
        """One forward and one backward pass for all networks (torch.func)."""
        values = {name: value.detach() for name, value in self.stacked.items()}
        gradients, _ = self.gradients(values, self.inputs[self.batches], self.labels[self.batches])
        for name, gradient in gradients.items():
            self.stacked[name].grad = gradient
        self.stacked_optimizer.step()

    def on_streams(self) -> None:
        """A CUDA stream per network."""
        here = torch.cuda.current_stream()
        for index, stream in enumerate(self.streams):
            stream.wait_stream(here)
            with torch.cuda.stream(stream):
                self.update(index)
        for stream in self.streams:
            here.wait_stream(stream)


def optimizer_of(values: list[Tensor]) -> torch.optim.Optimizer:
    """AdamW that a CUDA graph can record: its learning rate is a tensor."""
    lr = torch.tensor(LR, device=DEVICE)
    return torch.optim.AdamW(values, lr, weight_decay=0.0, fused=True, capturable=ON_GPU)


def repeated(way: Work) -> Work:
    """The way as many times as a measurement counts."""

    def updates() -> None:
        for _ in range(UPDATES):
            way()

    return updates


def as_graph(way: Work) -> object:
    """The timing of the recorded way, or why torch could not record it."""
    try:
        replay = recorded(way)
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return timed({"graph": repeated(replay)}, REPEATS, UPDATES)["graph"]


def recorded(way: Work) -> Work:
    """torch asks for some calls on a side stream before it records."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            way()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        way()
    return graph.replay
