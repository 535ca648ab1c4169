"""Evaluation: generated networks on held-out data, beside everything they must be compared with.

in:  the tuned generator, the injected one, the zoo, the classical networks
out: of every population the accuracies on test and how near it is to the zoo; what the generator makes of wrong
     conditions; norms, noise, ensembles; the generated networks as safetensors

Nothing is chosen by what test samples say: training, its settings and the strength of the imitations see the validation
split alone.
"""

from __future__ import annotations

from typing import Any

import torch

from neurogen import store
from neurogen.conditioning import RIGHT, Condition, change_from, conditions_of, generate_under
from neurogen.data.dataset import Dataset, require_same
from neurogen.generator import Generator
from neurogen.generator_folder import load_generator
from neurogen.parameters import ParameterLayout, Scale
from neurogen.pipeline import Evaluate
from neurogen.populations import ZOO, Judge, Networks, imitations, judged, mean, norms, under_noise
from neurogen.runtime import Runtime, generator_of, seed_of
from neurogen.task import Context, TaskDescription
from neurogen.zoo import initialised, load_network, load_zoo, network_path


def evaluate(step: Evaluate, runtime: Runtime) -> dict[str, Any]:
    dataset = step.task.load()
    network = initialised(step.task.target, dataset, 0).to(runtime.device)
    layout = ParameterLayout.of(network)
    test, validation = (Judge(network, layout, split, runtime) for split in (dataset.test, dataset.validation))
    zoo = load_zoo(step.references, dataset, network, step.align)
    scale = Scale.of_zoo(zoo, layout, soft_clip=None)
    generator = load_generator(step.tune.folder, runtime)
    task = _task(generator, step, dataset)
    contexts = _contexts(generator, step, dataset)
    z = generate_under(conditions_of(generator, task), contexts, generator, task, step.seed, runtime)
    generated = task.scale.decode(z[RIGHT])
    for number, flat in enumerate(generated):
        store.write_tensors(network_path(step.folder, number), layout.tensors(flat))
    populations = {
        "classical": _classical(step, dataset, layout),
        ZOO: zoo,
        "zoo_mean_network": zoo.mean(0, keepdim=True),
        "random_init": _random(step, dataset, layout, len(contexts)),
        **_after_inject(step, contexts, runtime),
        "generated": generated,
    }
    as_accurate = mean(validation.accuracies(generated))
    imitated, strengths = imitations(zoo, scale, as_accurate, len(contexts), validation, step.seed)
    compared = {"zoo": zoo, "generated": generated}
    return {
        "populations": judged(populations | imitated, zoo, test),
        "imitation_strengths": strengths,
        "conditions": {
            name: {
                "accuracy": test.accuracies(task.scale.decode(under)),
                "change": change_from(z[RIGHT], under).tolist(),
            }
            for name, under in z.items()
        },
        "norms": norms(compared, layout),
        "noise": under_noise(compared, scale, test, step.seed),
        "ensembles": {
            name: test.ensemble_accuracy(populations[name][:NUM_IN_ENSEMBLE]) for name in ("classical", *compared)
        },
        "validation_accuracy": as_accurate,
        "num_test": len(dataset.test),
        "num_train": len(dataset.train),
    }


NUM_IN_ENSEMBLE = 8


def _task(generator: Generator, step: Evaluate, dataset: Dataset) -> TaskDescription:
    task = generator.tasks[step.task.label]
    require_same(dataset, task.fingerprint, step.tune.folder)
    return task


def _contexts(generator: Generator, step: Evaluate, dataset: Dataset) -> list[Context]:
    """Training samples, drawn for every network."""
    return [
        Context.sample(
            dataset.train,
            dataset.class_names,
            generator.config.context_samples,
            generator_of(step.seed, "evaluate", number),
        )
        for number in range(step.evaluate.num_contexts)
    ]


def _after_inject(step: Evaluate, contexts: list[Context], runtime: Runtime) -> dict[str, Networks]:
    """What stage 1 alone gives, where there is one and it was for this target."""
    if step.tune.inject is None or step.tune.inject.task != step.task:
        return {}
    generator = load_generator(step.tune.inject.folder, runtime)
    task = generator.tasks[step.task.label]
    right = Condition(RIGHT, task.instruction)
    z = generate_under([right], contexts, generator, task, step.seed, runtime)
    return {"after_inject": task.scale.decode(z[RIGHT])}


def _classical(step: Evaluate, dataset: Dataset, layout: ParameterLayout) -> Networks:
    require_same(dataset, step.classical.metrics()["fingerprint"], step.classical.folder)
    count = step.classical.classical.num_networks
    return torch.stack([load_network(network_path(step.classical.folder, n), layout) for n in range(count)])


def _random(step: Evaluate, dataset: Dataset, layout: ParameterLayout, count: int) -> Networks:
    nets = [initialised(step.task.target, dataset, seed_of(step.seed, "random", number)) for number in range(count)]
    return torch.stack([layout.flatten({k: v.detach() for k, v in net.named_parameters()}) for net in nets])
