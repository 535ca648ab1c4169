"""Evaluation: generated networks on held-out data, beside everything they must be compared with.

in:  the tuned generator, the injected one, the zoo, the classical networks
out: accuracies on test, as fractions; generated networks as safetensors; masks of wrong predictions as IoU

Nothing is chosen by what is measured here: training and its settings see the validation split alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from neurogen import store
from neurogen.data.dataset import Dataset, require_same
from neurogen.errors import Interrupted
from neurogen.generator_folder import load_generator
from neurogen.parameters import ParameterLayout
from neurogen.pipeline import Evaluate
from neurogen.progress import Progress
from neurogen.runtime import Runtime, generator_of, seed_of
from neurogen.task import Context
from neurogen.zoo import initialised, load_network, load_zoo, network_path, predict


@dataclass(frozen=True)
class Judge:
    """Runs a target network with given flat parameters over the test split."""

    network: nn.Module
    layout: ParameterLayout
    dataset: Dataset
    runtime: Runtime

    def wrong(self, flat: Float[Tensor, " params"]) -> Bool[Tensor, " samples"]:
        """Which test samples the network gets wrong."""
        logits = predict(self.network, self.layout.tensors(flat), self.dataset.test, self.runtime)
        return logits.argmax(1) != self.dataset.test.labels

    def accuracies(self, networks: Float[Tensor, "networks params"]) -> list[float]:
        return [accuracy_of(self.wrong(flat)) for flat in networks]


def accuracy_of(wrong: Bool[Tensor, " samples"]) -> float:
    return 1 - float(wrong.double().mean())


def evaluate(step: Evaluate, runtime: Runtime) -> dict[str, Any]:
    dataset = step.task.load()
    network = initialised(step.task.target, dataset, 0).to(runtime.device)
    layout = ParameterLayout.of(network)
    judge = Judge(network, layout, dataset, runtime)
    zoo = load_zoo(step.references, dataset, network, step.align)
    classical = _classical(step, dataset, layout)
    generated = generate_from_contexts(step.tune.folder, step, dataset, runtime, "generated")
    for number, flat in enumerate(generated):
        store.write_tensors(network_path(step.folder, number), layout.tensors(flat))
    injected = None
    if step.tune.inject is not None:
        injected = generate_from_contexts(step.tune.inject.folder, step, dataset, runtime, "after stage 1")
    n = step.evaluate.num_contexts
    wrong_zoo = [judge.wrong(flat) for flat in zoo]
    wrong_generated = [judge.wrong(flat) for flat in generated]
    return {
        "generated": [accuracy_of(wrong) for wrong in wrong_generated],
        "classical": judge.accuracies(classical),
        "zoo": [accuracy_of(wrong) for wrong in wrong_zoo],
        "zoo_mean_network": judge.accuracies(zoo.mean(0, keepdim=True)),
        "random_init": judge.accuracies(_random(step, dataset, layout, n)),
        "gaussian_of_zoo": judge.accuracies(_gaussian(zoo, n, step.seed)),
        "after_inject": judge.accuracies(injected) if injected is not None else [],
        "max_iou": _mean([max(iou(one, other) for other in wrong_zoo) for one in wrong_generated]),
        "zoo_iou": _mean(_leave_one_out(wrong_zoo)),
        "num_test": len(dataset.test),
    }


def generate_from_contexts(
    folder: Path, step: Evaluate, dataset: Dataset, runtime: Runtime, what: str
) -> Float[Tensor, "networks params"]:
    """One network per context, each from one forward pass over training samples drawn for it."""
    generator = load_generator(folder, runtime)
    task = generator.tasks[step.task.label]
    require_same(dataset, task.fingerprint, folder)
    networks = []
    with Progress(what, step.evaluate.num_contexts, unit="networks") as progress:
        for number in range(step.evaluate.num_contexts):
            if runtime.stop.is_set():
                raise Interrupted
            random = generator_of(step.seed, "evaluate", number)
            context = Context.sample(dataset.train, dataset.class_names, generator.config.context_samples, random)
            with torch.no_grad():
                networks.append(task.scale.decode(generator(task.name, task.instruction, context)).cpu())
            progress.advance()
    return torch.stack(networks)


def _classical(step: Evaluate, dataset: Dataset, layout: ParameterLayout) -> Float[Tensor, "networks params"]:
    require_same(dataset, step.classical.metrics()["fingerprint"], step.classical.folder)
    count = step.classical.classical.num_networks
    return torch.stack([load_network(network_path(step.classical.folder, n), layout) for n in range(count)])


def _random(step: Evaluate, dataset: Dataset, layout: ParameterLayout, count: int) -> Float[Tensor, "networks params"]:
    nets = [initialised(step.task.target, dataset, seed_of(step.seed, "random", number)) for number in range(count)]
    return torch.stack([layout.flatten({k: v.detach() for k, v in net.named_parameters()}) for net in nets])


def _gaussian(zoo: Float[Tensor, "networks params"], count: int, seed: int) -> Float[Tensor, "samples params"]:
    """Every parameter drawn on its own from the zoo's mean and standard deviation of that parameter."""
    noise = torch.randn(count, zoo.shape[1], generator=generator_of(seed, "gaussian"))
    return zoo.mean(0) + zoo.std(0, correction=0) * noise


def iou(one: Bool[Tensor, " samples"], other: Bool[Tensor, " samples"]) -> float:
    """|A∩B| / |A∪B| of two sets of wrong predictions; 1 where both are empty."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0


def _leave_one_out(masks: list[Bool[Tensor, " samples"]]) -> list[float]:
    """Every network's greatest IoU with another one of the zoo."""
    return [max(iou(one, other) for other in masks if other is not one) for one in masks] if len(masks) > 1 else []


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
