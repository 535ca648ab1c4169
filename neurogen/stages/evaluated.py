"""What an evaluation works on: the data, the target network with its zoo, and networks that no language model made.

in:  the step, whose references and classical networks are done, and the generators of its stages
out: Inputs; the generator of a stage; flat parameters of classical and of untrained networks
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from neurogen.data.dataset import Dataset, require_same
from neurogen.generator.folder import load_generator
from neurogen.generator.generator import Generator
from neurogen.rng import seed_of
from neurogen.stages.data_report import say_what_was_read
from neurogen.stages.populations import Evaluator, Networks
from neurogen.study.pipeline import Evaluate, Inject, Tune
from neurogen.targets.fitting import initialised
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.targets.values import values_of
from neurogen.targets.zoo import load_network, load_zoo, network_path
from neurogen.training.runtime import Runtime


@dataclass(frozen=True)
class Inputs:
    """What an evaluation works on: the data, the target network, its zoo."""

    dataset: Dataset
    seen: Dataset  # without the classes that training may not know
    network: nn.Module
    layout: ParameterLayout
    zoo: Networks
    scale: Scale  # of the zoo, for noise
    test: Evaluator
    validation: Evaluator  # on seen classes alone, since settings are chosen by it

    @staticmethod
    def of(step: Evaluate, runtime: Runtime) -> Inputs:
        """Loads data and zoo. Raises UserError where they do not belong together."""
        dataset = step.task.load()
        say_what_was_read(dataset, runtime)
        network = initialised(step.task.target, dataset, 0).to(runtime.device)
        layout = ParameterLayout.of(network)
        zoo = load_zoo(step.zoo, dataset, network)
        seen = dataset.without(step.task.dataset.unseen)
        test, validation = (Evaluator(network, layout, split, runtime) for split in (dataset.test, seen.validation))
        return Inputs(dataset, seen, network, layout, zoo, Scale.of_zoo(zoo, layout, soft_clip=None), test, validation)


def generator_of(stage: Inject | Tune, step: Evaluate, dataset: Dataset, runtime: Runtime) -> Generator:
    """The generator that a stage has left. Raises UserError where it was trained on other data for this task."""
    generator = load_generator(stage.folder, runtime, targets=[spec.target for spec in stage.tasks])
    require_same(dataset, generator.tasks[step.task.name].fingerprint, stage.folder)
    return generator


def classical_networks(step: Evaluate, inputs: Inputs) -> Networks:
    """Those of the classical baseline. Raises UserError where they were trained on other data."""
    folder = step.classical.folder
    require_same(inputs.dataset, step.classical.result().fingerprint, folder)
    count = step.classical.classical.num_networks
    return torch.stack([load_network(network_path(folder, index), inputs.layout) for index in range(count)])


def random_networks(step: Evaluate, inputs: Inputs, count: int) -> Networks:
    """Untrained networks."""
    seeds = [seed_of(step.seed, "random", index) for index in range(count)]
    networks = [initialised(step.task.target, inputs.dataset, seed) for seed in seeds]
    return torch.stack([inputs.layout.flatten(values_of(network)).detach() for network in networks])
