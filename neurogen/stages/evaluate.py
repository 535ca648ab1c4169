"""Evaluation: generated networks on held-out data, beside everything that they must be compared with.

in:  the tuned generator, the injected one, the zoo, the classical networks
out: of every population the accuracies on test and how near it is to the zoo; what the generator makes of wrong
     conditions; norms, noise, ensembles; the generated networks as safetensors

Nothing is chosen by test samples: training, its settings and the strengths of the matched baselines see the validation
split alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from neurogen import store
from neurogen.data.dataset import Dataset, Split
from neurogen.generator.generator import Generator
from neurogen.generator.task import Task
from neurogen.progress import Progress
from neurogen.stages.conditioning import RIGHT, Condition, change_from, conditions_of, generate_under
from neurogen.stages.contexts import EvaluationContext, evaluation_contexts
from neurogen.stages.evaluate_lists import evaluate_lists
from neurogen.stages.evaluated import Inputs, classical_networks, generator_of, random_networks
from neurogen.stages.populations import (
    Evaluator,
    Networks,
    baselines_of,
    matching_strengths,
    mean,
    measure,
    norms,
    under_noise,
)
from neurogen.stages.recalibration import recalibrated_networks
from neurogen.stages.relabel import Relabelled
from neurogen.stages.relabel_baselines import relabel_baselines
from neurogen.study.pipeline import Evaluate, Inject, Tune
from neurogen.study.results import (
    ConditionResult,
    EnsembleResult,
    EvaluationResult,
    Population,
    PopulationResult,
    to_json,
)
from neurogen.targets.parameters import ParameterLayout
from neurogen.targets.zoo import load_zoo, network_path
from neurogen.training.runtime import Runtime


def evaluate(step: Evaluate, runtime: Runtime) -> dict[str, Any]:
    """An EvaluationResult as JSON; generated networks go into the step's folder.

    Raises UserError where a stage was trained on other data than there are now, Interrupted when the stop flag is set.
    """
    if step.task.dataset.ways is not None:
        return evaluate_lists(step, runtime)
    inputs = Inputs.of(step, runtime)
    test, validation, layout, zoo = inputs.test, inputs.validation, inputs.layout, inputs.zoo
    contexts = evaluation_contexts(step, inputs.dataset, layout)
    z, decode = _generate(step.tune, step, inputs.dataset, contexts, _all_conditions(step), runtime)
    generated = decode(z[RIGHT])
    _save(generated, layout, step.folder)

    accuracy = mean(validation.accuracies(generated))
    baselines = baselines_of(zoo, inputs.scale, len(generated), step.seed)
    strengths = matching_strengths(baselines, accuracy, validation)
    after_inject = _after_inject(step, inputs.dataset, contexts, runtime)
    recalibrated = partial(recalibrated_networks, step.evaluate.recalibrate, inputs, contexts)
    populations: dict[str, Networks] = {
        Population.CLASSICAL: classical_networks(step, inputs),
        Population.ZOO: zoo,
        Population.ZOO_MEAN: zoo.mean(0, keepdim=True),
        **recalibrated(Population.ZOO_MEAN_RECALIBRATED, zoo.mean(0, keepdim=True)),
        **_means_of_other_zoos(step, inputs),
        Population.RANDOM: random_networks(step, inputs, len(generated)),
        Population.GAUSSIAN: baselines[Population.MATCHED_GAUSSIAN].make(1.0),
        **{name: baseline.make(strengths[name]) for name, baseline in baselines.items()},
        **relabel_baselines(step, inputs.dataset, contexts, zoo, runtime),
        **after_inject,
        **recalibrated(Population.AFTER_INJECT_RECALIBRATED, after_inject.get(Population.AFTER_INJECT)),
        **recalibrated(Population.GENERATED_RECALIBRATED, generated),
        Population.GENERATED: generated,
    }
    result = EvaluationResult(
        populations=_measured(populations, step.task.dataset.unseen, inputs),
        matched_strengths=strengths,
        conditions=_under_conditions({name: decode(networks) for name, networks in z.items()}, inputs),
        norms=norms(zoo, generated, layout),
        noise=under_noise(zoo, generated, inputs.scale, test, step.seed),
        ensembles=_ensembles(populations, step.evaluate.num_in_ensemble, test),
        validation_accuracy=accuracy,
        num_test=len(inputs.dataset.test),
        num_train=len(inputs.seen.train),
    )
    return dict(to_json(result))


def _save(networks: Networks, layout: ParameterLayout, folder: Path) -> None:
    for index, flat in enumerate(networks):
        store.write_tensors(network_path(folder, index), layout.tensors(flat))


Decode = Callable[[Networks], Networks]  # z-scores → parameters
MakeConditions = Callable[[Generator, Task], Sequence[Condition]]


def _all_conditions(step: Evaluate) -> MakeConditions:
    others = {task.name: task.load() for task in step.tune.tasks if task != step.task}
    return lambda generator, task: conditions_of(generator, task, others)


def _right_condition(_: Generator, task: Task) -> list[Condition]:
    return [Condition(RIGHT, task.instruction)]


def _generate(
    stage: Inject | Tune,
    step: Evaluate,
    dataset: Dataset,
    contexts: Sequence[EvaluationContext],
    conditions: MakeConditions,
    runtime: Runtime,
) -> tuple[dict[str, Networks], Decode]:
    """The networks that the stage's generator makes under every condition, as z-scores of networks for the data's own
    classes. One backbone is in memory at a time, and none while networks are evaluated."""
    generator = generator_of(stage, step, dataset, runtime)
    task = generator.tasks[step.task.name]
    prompts = [context.context for context in contexts]
    z = generate_under(conditions(generator, task), prompts, generator, task, step.seed, runtime)
    for networks in z.values():
        for row, context in zip(networks, contexts, strict=True):
            if isinstance(context.episode, Relabelled):
                row.copy_(context.episode.restored(row))
    return z, task.scale.decode


def _after_inject(
    step: Evaluate, dataset: Dataset, contexts: Sequence[EvaluationContext], runtime: Runtime
) -> dict[str, Networks]:
    """What stage 1 alone gives, where there is one and it was for this task."""
    inject = step.tune.inject
    if inject is None or step.task not in inject.tasks:
        return {}
    z, decode = _generate(inject, step, dataset, contexts, _right_condition, runtime)
    return {Population.AFTER_INJECT: decode(z[RIGHT])}


def _means_of_other_zoos(step: Evaluate, inputs: Inputs) -> dict[str, Networks]:
    """Means of the zoos that stage 1 had of the same target for other data of this shape: what a generator gives that
    follows the instruction of one of them."""
    means = {}
    for other in step.tune.inject.zoos if step.tune.inject is not None else ():
        if other.task == step.task or other.task.target != step.task.target:
            continue
        data = other.task.load_seen()
        if data.shape == inputs.dataset.shape:
            zoo = load_zoo(other, data, inputs.network)
            means[f"zoo mean network of {other.task.name}"] = zoo.mean(0, keepdim=True)
    return means


def _measured(
    populations: Mapping[str, Networks], unseen: Sequence[str], inputs: Inputs
) -> dict[str, PopulationResult]:
    """Every population on test; where there are classes that generator and zoo have never seen, on those too."""
    results = measure(populations, inputs.zoo, inputs.test)
    if not unseen:
        return results
    evaluator = replace(inputs.test, split=_only(inputs.dataset.test, inputs.dataset.class_names, unseen))
    accuracies = {name: evaluator.accuracies(networks) for name, networks in populations.items()}
    return {name: replace(result, unseen=accuracies[name]) for name, result in results.items()}


def _only(split: Split, class_names: Sequence[str], chosen: Sequence[str]) -> Split:
    is_chosen = torch.tensor([name in chosen for name in class_names])
    return split.subset(is_chosen[split.labels].nonzero()[:, 0])


def _ensembles(populations: Mapping[str, Networks], size: int, test: Evaluator) -> dict[str, EnsembleResult]:
    names = (Population.CLASSICAL, Population.ZOO, Population.GENERATED)
    return {name: test.ensemble(populations[name][:size]) for name in names}


def _under_conditions(by_condition: Mapping[str, Networks], inputs: Inputs) -> dict[str, ConditionResult]:
    results = {}
    with Progress("compared", len(by_condition), unit="conditions") as progress:
        for name, networks in by_condition.items():
            change = change_from(by_condition[RIGHT], networks, inputs.scale)
            results[name] = ConditionResult(inputs.test.accuracies(networks), change.tolist())
            progress.advance()
    return results
