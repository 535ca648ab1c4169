"""Evaluation: generated networks on held-out data, beside everything they must be compared with.

in:  the tuned generator, the injected one, the zoo, the classical networks
out: of every population the accuracies on test and how near it is to the zoo; what the generator makes of wrong
     conditions; norms, noise, ensembles; the generated networks as safetensors

Nothing is chosen by what test samples say: training, its settings and the strength of the imitations see the validation
split alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neurogen import store
from neurogen.data.dataset import Dataset, Split, require_same
from neurogen.generator.folder import load_generator
from neurogen.generator.generator import Generator
from neurogen.generator.task import Task
from neurogen.rng import seed_of
from neurogen.stages.conditioning import RIGHT, Condition, change_from, conditions_of, generate_under
from neurogen.stages.contexts import EvaluationContext, evaluation_contexts
from neurogen.stages.populations import ZOO, Judge, Networks, as_accurate, imitations, judged, mean, norms, under_noise
from neurogen.stages.relabel_baselines import relabel_baselines
from neurogen.study.pipeline import Evaluate
from neurogen.targets.fitting import initialised
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.targets.zoo import load_network, load_zoo, network_path
from neurogen.training.runtime import Runtime


def evaluate(step: Evaluate, runtime: Runtime) -> dict[str, Any]:
    dataset = step.task.load()
    network = initialised(step.task.target, dataset, 0).to(runtime.device)
    layout = ParameterLayout.of(network)
    test, validation = (Judge(network, layout, split, runtime) for split in (dataset.test, dataset.validation))
    zoo = load_zoo(step.zoo, dataset, network)
    scale = Scale.of_zoo(zoo, layout, soft_clip=None)
    contexts = evaluation_contexts(step, dataset, layout)
    z, decode = _generate(step.tune.folder, step, dataset, contexts, _all_conditions(step), runtime)
    generated = decode(z[RIGHT])
    for number, flat in enumerate(generated):
        store.write_tensors(network_path(step.folder, number), layout.tensors(flat))
    accuracy = mean(validation.accuracies(generated))
    ways = imitations(zoo, scale, len(generated), step.seed)
    strengths = {name: as_accurate(way, accuracy, validation) for name, way in ways.items()}
    populations = {
        "classical": _classical(step, dataset, layout),
        ZOO: zoo,
        "zoo_mean_network": zoo.mean(0, keepdim=True),
        **_means_of_other_zoos(step, dataset, network),
        "random_init": _random(step, dataset, layout, len(generated)),
        "gaussian_of_zoo": ways["drawn_zoo"].make(1.0),
        **{name: way.make(strengths[name]) for name, way in ways.items()},
        **relabel_baselines(step, dataset, contexts, zoo, runtime),
        **_after_inject(step, dataset, contexts, runtime),
        "generated": generated,
    }
    found = judged(populations, zoo, test)
    if step.task.dataset.unseen:
        unseen = replace(test, split=_only(dataset.test, dataset, step.task.dataset.unseen))
        for name, networks in populations.items():
            found[name]["unseen"] = unseen.accuracies(networks)
    compared = {name: populations[name] for name in (ZOO, "generated")}
    teams = {name: populations[name][: step.evaluate.num_in_ensemble] for name in ("classical", *compared)}
    return {
        "populations": found,
        "imitation_strengths": strengths,
        "conditions": {
            name: {
                "accuracy": test.accuracies(decode(under)),
                "change": change_from(z[RIGHT], under).tolist(),
            }
            for name, under in z.items()
        },
        "norms": norms(compared, layout),
        "noise": under_noise(compared, scale, test, step.seed),
        "ensembles": {
            name: {"accuracy": test.ensemble_accuracy(team), "members": len(team)} for name, team in teams.items()
        },
        "validation_accuracy": accuracy,
        "num_test": len(dataset.test),
        "num_train": len(dataset.train),
    }


Decode = Callable[[Networks], Networks]  # z-scores → parameters
MakeConditions = Callable[[Generator, Task], Sequence[Condition]]


def _all_conditions(step: Evaluate) -> MakeConditions:
    others = {task.name: task.load() for task in step.tune.tasks if task != step.task}
    return lambda generator, task: conditions_of(generator, task, others)


def _generate(
    folder: Path,
    step: Evaluate,
    dataset: Dataset,
    contexts: Sequence[EvaluationContext],
    conditions_of: MakeConditions,
    runtime: Runtime,
) -> tuple[dict[str, Networks], Decode]:
    """The networks of the generator in `folder` under every condition, as z-scores of networks for the data's own
    classes. One backbone is in memory at a time, and none while networks are judged."""
    generator = load_generator(folder, runtime)
    task = generator.tasks[step.task.name]
    require_same(dataset, task.fingerprint, folder)
    prompts = [context.context for context in contexts]
    found = generate_under(conditions_of(generator, task), prompts, generator, task, step.seed, runtime)
    for networks in found.values():
        for z, context in zip(networks, contexts, strict=True):
            z.copy_(context.episode.restored(z))
    return found, task.scale.decode


def _after_inject(
    step: Evaluate, dataset: Dataset, contexts: Sequence[EvaluationContext], runtime: Runtime
) -> dict[str, Networks]:
    """What stage 1 alone gives, where there is one and it was for this task."""
    inject = step.tune.inject
    if inject is None or step.task not in inject.tasks:
        return {}

    def right(_: Generator, task: Task) -> list[Condition]:
        return [Condition(RIGHT, task.instruction)]

    z, decode = _generate(inject.folder, step, dataset, contexts, right, runtime)
    return {"after_inject": decode(z[RIGHT])}


def _means_of_other_zoos(step: Evaluate, dataset: Dataset, network: nn.Module) -> dict[str, Networks]:
    """Means of the zoos that stage 1 had of the same target for other data of this shape: what a generator gives that
    follows the instruction of one of them."""
    found = {}
    for other in step.tune.inject.zoos if step.tune.inject is not None else ():
        if other.task == step.task or other.task.target != step.task.target:
            continue
        theirs = other.task.load_seen()
        if theirs.shape == dataset.shape:
            found[f"zoo mean network of {other.task.name}"] = load_zoo(other, theirs, network).mean(0, keepdim=True)
    return found


def _only(split: Split, dataset: Dataset, classes: Sequence[str]) -> Split:
    chosen = torch.tensor([name in classes for name in dataset.class_names])
    return split.subset(chosen[split.labels].nonzero()[:, 0])


def _classical(step: Evaluate, dataset: Dataset, layout: ParameterLayout) -> Networks:
    require_same(dataset, step.classical.metrics()["fingerprint"], step.classical.folder)
    count = step.classical.classical.num_networks
    return torch.stack([load_network(network_path(step.classical.folder, n), layout) for n in range(count)])


def _random(step: Evaluate, dataset: Dataset, layout: ParameterLayout, count: int) -> Networks:
    nets = [initialised(step.task.target, dataset, seed_of(step.seed, "random", number)) for number in range(count)]
    return torch.stack([layout.flatten({k: v.detach() for k, v in net.named_parameters()}) for net in nets])
