"""Evaluation where every prompt lists classes by name: networks for lists that training never drew.

in:  the tuned generator, the injected one, the zoo, the classical networks; lists of classes, each under several names
out: the accuracy of every network on the test samples of its list, and of every name whether its row is the right one

Names that training reads, names that it does not, and words that mean nothing go through the same generator. Beside it
stand the zoo's rows of the classes that are meant, which is what can be reached, and the zoo's rows of the classes that
other ways of reading a name choose (name_baselines.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from neurogen import store
from neurogen.data.splits import SplitName
from neurogen.errors import Interrupted
from neurogen.generator.generator import Generator
from neurogen.generator.known import rows_in
from neurogen.generator.prompts import Prompt
from neurogen.generator.task import Task
from neurogen.progress import Progress
from neurogen.rng import rng_of
from neurogen.stages.conditioning import change_from
from neurogen.stages.episode import draw_episode, restricted
from neurogen.stages.evaluate_few_shot import evaluate_few_shot
from neurogen.stages.evaluated import Inputs, classical_networks, generator_of, random_networks
from neurogen.stages.listed import Listed, meaningless_words, names_of
from neurogen.stages.name_baselines import Chosen, chosen_classes
from neurogen.stages.populations import Evaluator, mean
from neurogen.study.pipeline import Evaluate
from neurogen.study.results import (
    ConditionResult,
    EvaluationResult,
    Naming,
    NamingResult,
    Population,
    PopulationResult,
    to_json,
)
from neurogen.targets.parameters import Scale
from neurogen.targets.zoo import network_path
from neurogen.training.runtime import Runtime

LISTS = "lists.json"
NEW_NAMES = "new_names"  # the folder of the networks for names that training does not read

Networks = list[Float[Tensor, " _"]]  # one per list, of as many rows as it has classes


@dataclass(frozen=True)
class ListContext:
    """A list of classes that training never drew."""

    episode: Listed
    names: dict[Naming, tuple[str, ...]]
    validation_names: tuple[str, ...]

    @staticmethod
    def draw(step: Evaluate, inputs: Inputs, number: int) -> ListContext:
        """The number-th list of an evaluation."""
        rng, config, all_names = rng_of(step.seed, "evaluate", number), step.task.dataset, inputs.dataset.class_names
        episode = draw_episode(config, all_names, inputs.layout, rng, rng, SplitName.TEST)
        assert isinstance(episode, Listed)
        known = []
        for index in episode.classes.tolist():
            options = names_of(all_names[index], config.names, SplitName.TRAIN)
            known.append(options[int(torch.randint(len(options), (), generator=rng))])
        names = {
            Naming.KNOWN: tuple(known),
            Naming.NEW: episode.class_names,
            Naming.MOVED: (*known[1:], known[0]),
            Naming.NONSENSE: meaningless_words(len(known), SplitName.TEST, rng),
        }
        by_class = [names_of(all_names[c], config.names, SplitName.VALIDATION) for c in episode.classes.tolist()]
        validation = (options[int(torch.randint(len(options), (), generator=rng))] for options in by_class)
        return ListContext(episode, names, tuple(validation))

    def meant(self, naming: Naming) -> Int64[Tensor, " listed"] | None:
        """The class that each name of the list means; None where they mean nothing."""
        classes = self.episode.classes
        return {Naming.MOVED: classes.roll(-1), Naming.NONSENSE: None}.get(naming, classes)

    def described(self) -> dict[str, list[Any]]:
        """For lists.json: the classes and the names that training does not read."""
        return {"classes": self.episode.classes.tolist(), "names": list(self.names[Naming.NEW])}


def evaluate_lists(step: Evaluate, runtime: Runtime) -> dict[str, Any]:
    """An EvaluationResult as JSON; networks and lists go into the step's folder.

    Raises UserError where a stage was trained on other data than there are now, Interrupted when the stop flag is set.
    """
    inputs = Inputs.of(step, runtime)
    contexts = [ListContext.draw(step, inputs, number) for number in range(step.evaluate.num_contexts)]
    after_inject: dict[str, Networks] = {}
    if step.tune.inject is not None:
        stage_1 = generator_of(step.tune.inject, step, inputs.dataset, runtime)
        injected = Generated.by(stage_1, step, inputs.scale, contexts, [Naming.KNOWN], runtime)
        del stage_1  # one backbone is in memory at a time
        after_inject = {Population.AFTER_INJECT: injected.networks[Naming.KNOWN]}
    generator = generator_of(step.tune, step, inputs.dataset, runtime)
    tuned = Generated.by(generator, step, inputs.scale, contexts, list(Naming), runtime)
    for_choices = _generated_for_validation(generator, step, contexts, runtime)
    new_names = [name for context in contexts for name in context.names[Naming.NEW]]
    chosen = chosen_classes(
        generator.backbone,
        inputs.dataset.class_names,
        step.task.dataset.names,
        new_names,
        step.evaluate.sentence_encoder,
    )
    task = generator.tasks[step.task.name]
    del generator  # it is not in memory while networks are evaluated
    for index, (context, flat) in enumerate(zip(contexts, tuned.networks[Naming.KNOWN], strict=True)):
        layout = inputs.layout.with_rows(len(context.episode.classes))
        store.write_tensors(network_path(step.folder, index), layout.tensors(flat))
        store.write_tensors(
            network_path(step.folder / NEW_NAMES, index), layout.tensors(tuned.networks[Naming.NEW][index])
        )
    store.write_json(step.folder / LISTS, [context.described() for context in contexts])

    populations = _populations(step, inputs, contexts, chosen) | after_inject
    populations |= {
        Population.NEW_NAMES: tuned.networks[Naming.NEW],
        Population.GENERATED: tuned.networks[Naming.KNOWN],
    }
    others: dict[str, Networks] = {naming: tuned.networks[naming] for naming in (Naming.MOVED, Naming.NONSENSE)}
    accuracies = _accuracies(populations | others, contexts, inputs.test)
    accuracies |= {Naming.KNOWN: accuracies[Population.GENERATED], Naming.NEW: accuracies[Population.NEW_NAMES]}
    episodes = [context.episode for context in contexts]
    validation = _accuracies({Population.GENERATED: for_choices}, contexts, inputs.validation)
    result = EvaluationResult(
        populations={name: PopulationResult(accuracies[name], max_iou=[], min_l2=[]) for name in populations},
        matched_strengths={},
        conditions={naming: ConditionResult(accuracies[naming], tuned.changes[naming]) for naming in Naming},
        norms={},
        noise={},
        ensembles={},
        validation_accuracy=mean(validation[Population.GENERATED]),
        num_test=len(inputs.dataset.test),
        num_train=len(inputs.seen.train),
        naming={**_naming_of_baselines(chosen, contexts), **tuned.naming},
        few_shot=evaluate_few_shot(step, inputs, task, episodes, tuned.networks[Naming.KNOWN], runtime),
    )
    return dict(to_json(result))


def _populations(
    step: Evaluate, inputs: Inputs, contexts: Sequence[ListContext], chosen: Chosen
) -> dict[str, Networks]:
    """What no generator made."""
    zoo_mean = inputs.zoo.mean(0)
    return {
        Population.CLASSICAL: _listed(classical_networks(step, inputs), contexts),
        Population.ZOO: _listed(inputs.zoo, contexts),
        Population.ZOO_MEAN: _listed(zoo_mean[None], contexts),
        Population.RANDOM: _listed(random_networks(step, inputs, len(contexts)), contexts),
        **{name: _with_rows_of(classes, zoo_mean, contexts, inputs) for name, classes in chosen.items()},
    }


@dataclass(frozen=True)
class Generated:
    """What a generator makes of the lists."""

    networks: dict[Naming, Networks]
    changes: dict[Naming, list[float]]  # of the parameters, against those of the first naming, list by list
    naming: dict[str, NamingResult]

    @staticmethod
    def by(
        generator: Generator,
        step: Evaluate,
        of_zoo: Scale,
        contexts: Sequence[ListContext],
        namings: Sequence[Naming],
        runtime: Runtime,
    ) -> Generated:
        """A network for every list under every naming."""
        task = generator.tasks[step.task.name]
        sizes = [len(context.episode.classes) for context in contexts]
        scales = [task.scale.with_rows(size) for size in sizes]
        z = {
            naming: generate_lists(generator, task, [context.names[naming] for context in contexts], runtime)
            for naming in namings
        }
        networks = {
            naming: [scale.decode(row) for scale, row in zip(scales, rows, strict=True)] for naming, rows in z.items()
        }
        units = [of_zoo.with_rows(size) for size in sizes]
        return Generated(
            networks=networks,
            changes={
                naming: [
                    float(change_from(right[None], other[None], unit))
                    for right, other, unit in zip(networks[namings[0]], others, units, strict=True)
                ]
                for naming, others in networks.items()
            },
            naming={str(naming): _naming(rows, naming, contexts, task) for naming, rows in z.items()},
        )


def _generated_for_validation(
    generator: Generator, step: Evaluate, contexts: Sequence[ListContext], runtime: Runtime
) -> Networks:
    """A network for every list under the names by which settings may be chosen."""
    task = generator.tasks[step.task.name]
    rows = generate_lists(generator, task, [context.validation_names for context in contexts], runtime)
    return [task.scale.with_rows(len(c.validation_names)).decode(row) for c, row in zip(contexts, rows, strict=True)]


@torch.no_grad()
def generate_lists(generator: Generator, task: Task, lists: Sequence[tuple[str, ...]], runtime: Runtime) -> Networks:
    """Z-scores of a network for every list of names. Lists of one length are read together.

    Raises Interrupted when the stop flag is set.
    """
    prompts = [Prompt(task.instruction, None, names) for names in lists]
    networks: dict[int, Tensor] = {}
    with Progress("generated", len(lists), unit="networks") as progress:
        for index, z in generator.in_batches(task.name, prompts, generator.prompts_at_once(runtime.batch_tokens)):
            if runtime.stop.is_set():
                raise Interrupted
            networks[index] = z.cpu()
            progress.advance()
    return [networks[index] for index in range(len(lists))]


def _naming(z: Networks, naming: Naming, contexts: Sequence[ListContext], task: Task) -> NamingResult:
    """For which known classes the generator took the names, and how sure it is of them."""
    assert task.known is not None
    right: list[bool] = []
    likeliest: list[float] = []
    for row, context in zip(z, contexts, strict=True):
        probabilities = task.known.probabilities(rows_in(row, task.layout.with_rows(len(context.names[naming]))))
        if (meant := context.meant(naming)) is not None:
            right += (probabilities.argmax(1) == meant).tolist()
        likeliest += probabilities.amax(1).tolist()
    return NamingResult(right or None, likeliest)


def _naming_of_baselines(chosen: Chosen, contexts: Sequence[ListContext]) -> dict[str, NamingResult]:
    meant = [
        (name, index)
        for context in contexts
        for name, index in zip(context.names[Naming.NEW], context.episode.classes.tolist(), strict=True)
    ]
    return {
        baseline: NamingResult([classes[name] == index for name, index in meant])
        for baseline, classes in chosen.items()
    }


def _listed(networks: Float[Tensor, "networks params"], contexts: Sequence[ListContext]) -> Networks:
    """For every list one of these networks, with the rows of the list's classes."""
    return [context.episode.parameters(networks[index % len(networks)]) for index, context in enumerate(contexts)]


def _with_rows_of(
    classes: dict[str, int], network: Float[Tensor, " params"], contexts: Sequence[ListContext], inputs: Inputs
) -> Networks:
    """For every list the network with the rows of the classes for which a baseline takes its new names."""
    chosen = ([classes[name] for name in context.names[Naming.NEW]] for context in contexts)
    return [inputs.layout.choose_rows(network, rows) for rows in chosen]


def _accuracies(
    populations: dict[str, Networks], contexts: Sequence[ListContext], evaluator: Evaluator
) -> dict[str, list[float]]:
    """On the samples of each list's classes. Raises Interrupted when the stop flag is set."""
    accuracies: dict[str, list[float]] = {name: [] for name in populations}
    with Progress("evaluated", len(populations) * len(contexts), unit="networks") as progress:
        for index, context in enumerate(contexts):
            layout = evaluator.layout.with_rows(len(context.episode.classes))
            of_list = replace(evaluator, layout=layout, split=restricted(evaluator.split, context.episode))
            for name, networks in populations.items():
                accuracies[name] += of_list.accuracies(networks[index][None])
                progress.advance()
    return accuracies
