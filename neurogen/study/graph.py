"""From experiments to steps: equal steps of several experiments are one step, and experiments may share a generator.

in:  experiments
out: the last step of their study, on which all others hang

With tasks=together one generator learns the tasks of all experiments that differ in nothing but their task. The tasks
that `held_out` names are left out there; the generator meets them after stage 2, in recipe.adapt.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from neurogen.config import DatasetConfig, Experiment, ModelConfig, TaskSharing, ZooInit
from neurogen.config.schema import written
from neurogen.errors import UserError
from neurogen.study.pipeline import Aggregate, Classical, Evaluate, FewShot, Inject, Reference, Tune, Zoo
from neurogen.study.step import flat, plain
from neurogen.study.task_spec import Embed, TaskSpec

LONGEST_NAME = 60  # characters that the datasets of a study may take in the name of its folder
Learned = dict[str, Zoo]  # what one generator learns, by the names of the tasks


def steps_of(experiments: Sequence[Experiment]) -> Aggregate:
    """The last step of a study of at least one experiment; everything else hangs on it.

    Raises UserError where the data cannot be found, or the experiments are not under one root.
    """
    return study_of(experiments, evaluations_of(experiments))


def study_of(experiments: Sequence[Experiment], evaluations: Sequence[Evaluate]) -> Aggregate:
    """The last step of a study whose evaluations are known, one per experiment."""
    different: dict[str, Evaluate] = {}
    equal: dict[str, list[Experiment]] = defaultdict(list)
    for evaluation, experiment in zip(evaluations, experiments, strict=True):
        different.setdefault(evaluation.key, evaluation)
        equal[evaluation.key].append(experiment)
    names = tuple(_variant_of(evaluation, equal[key]) for key, evaluation in different.items())
    return Aggregate(experiments[0].root, study_name(experiments), tuple(different.values()), names)


def _variant_of(evaluation: Evaluate, experiments: Sequence[Experiment]) -> str | None:
    """What tables call the evaluation of these experiments: all their names.

    Experiments that differ only in how held-out tasks are adapted have one evaluation of every learned task.
    """
    variants = list(dict.fromkeys(experiment.variant for experiment in experiments))
    is_learned = all(e.held_out and evaluation.task.name not in e.held_out for e in experiments)
    if len(variants) > 1 and is_learned:
        return "learned"
    return ", ".join(filter(None, variants)) or None


def study_name(experiments: Sequence[Experiment]) -> str:
    """`study_name`; where there is none the name of the only experiment, the datasets, or the number of experiments."""
    studies = {experiment.study_name for experiment in experiments}
    if len(studies) == 1 and (study := studies.pop()):
        return study
    names = list(dict.fromkeys(experiment.name for experiment in experiments))
    if len(names) == 1:
        return names[0]
    datasets = "+".join(dict.fromkeys(experiment.dataset.name for experiment in experiments))
    return f"{datasets}-{len(names)}-points" if len(datasets) < LONGEST_NAME else f"{len(names)}-points"


def evaluations_of(experiments: Sequence[Experiment]) -> list[Evaluate]:
    """One evaluation per experiment.

    Raises UserError where the experiments are not under one root, the data cannot be found, or tasks=together is
    impossible for these experiments.
    """
    _require_root(experiments)
    identities = Identities()
    zoos = [zoo_of(experiment, identities) for experiment in experiments]
    _require_tasks({name for experiment in experiments for name in experiment.held_out}, zoos)
    groups = [sharing_of(e, zoo) for e, zoo in zip(experiments, zoos, strict=True)]
    learned: dict[str, Learned] = defaultdict(dict)
    for e, zoo, group in zip(experiments, zoos, groups, strict=True):
        if zoo.task.name not in e.held_out:
            known = learned[group].setdefault(zoo.task.name, zoo)
            _require_same_form(known, zoo)
    _require_company(experiments, zoos, groups, learned)
    return [
        evaluation_of(e, zoo, learned[group], identities)
        for e, zoo, group in zip(experiments, zoos, groups, strict=True)
    ]


def _require_root(experiments: Sequence[Experiment]) -> None:
    """A study has one root."""
    roots = sorted({experiment.root for experiment in experiments})
    if len(roots) > 1:
        raise UserError(
            f"the points of a sweep have the roots {', '.join(roots)}; give one root=FOLDER for all (a folder with a "
            f"comma in its name is written \"root='{','.join(roots)}'\")"
        )


def _require_same_form(known: Zoo, zoo: Zoo) -> None:
    """A generator knows a task by its name, so two points with this name must be of one task."""
    if known is zoo:
        return
    before, after = (dict(flat(plain(member, identity=True))) for member in (known, zoo))
    differing = [key.removeprefix("task.") for key in {**before, **after} if before.get(key) != after.get(key)]
    if differing:
        raise UserError(
            f"tasks=together: two points have the task {zoo.task.name} in different forms, in {differing[0]}; vary its "
            "dataset, target and zoo in separate sweeps, or give other data another dataset.name"
        )


def _require_company(
    experiments: Sequence[Experiment], zoos: Sequence[Zoo], groups: Sequence[str], learned: Mapping[str, Learned]
) -> None:
    """With tasks=together there are several tasks to learn; `groups` are the values of `sharing_of`."""
    sizes = Counter(groups)
    for e, zoo, group in zip(experiments, zoos, groups, strict=True):
        if e.tasks == TaskSharing.together and not e.held_out and len(learned[group]) < 2:
            given = f"no other point shares a generator with {zoo.task.name}"
            others = [other for other, of in zip(experiments, zoos, strict=True) if of.task.name != zoo.task.name]
            differing = min((_differing(e, other) for other in others), key=len, default=[])
            if differing:
                given += f", since they differ in {', '.join(differing)}"
            elif sizes[group] > 1:
                given = (
                    f"{sizes[group]} points are one and the same, {zoo.task.name}, and no other shares its generator"
                )
            raise UserError(
                f"tasks=together: {given}; give several tasks, as in "
                "-m dataset=digits,mnist5k dataset.resize=28 preset=together, with the same backbone, recipe and seed"
            )


def _require_tasks(names: set[str], zoos: Sequence[Zoo]) -> None:
    """Held-out tasks must be among those of the experiments."""
    allowed = sorted({zoo.task.name for zoo in zoos})
    for name in sorted(names):
        if name not in allowed:
            raise UserError(f"held_out names {name}, which is no task of these points; allowed: {', '.join(allowed)}")


def sharing_of(experiment: Experiment, zoo: Zoo) -> str:
    """Experiments with the same value share a generator.

    With tasks=together the value is all that the training of a generator depends on, except for the task.
    """
    if experiment.tasks == TaskSharing.alone:
        return json.dumps([plain(experiment, identity=True), plain(zoo, identity=True)], sort_keys=True)
    return json.dumps(_shared_settings(experiment), sort_keys=True)


def _shared_settings(e: Experiment) -> dict[str, Any]:
    """What is the same for all tasks of one generator, by dotted keys."""
    parts = {"backbone": e.backbone, "generator": e.generator, "recipe": e.recipe}
    plain_parts = {name: plain(part, identity=True) for name, part in parts.items()}
    return dict(flat({"seed": e.seed, "held_out": e.held_out, **plain_parts}))


def _differing(e: Experiment, other: Experiment) -> list[str]:
    """The keys by which two experiments cannot share a generator, each with the value of both."""
    first, second = _shared_settings(e), _shared_settings(other)
    keys = [key for key in {**first, **second} if first.get(key) != second.get(key)]
    return [f"{key} ({written(first.get(key))}, {written(second.get(key))})" for key in keys]


def evaluation_of(experiment: Experiment, zoo: Zoo, learned: Learned, identities: Identities) -> Evaluate:
    """The evaluation of an experiment whose generator learns these tasks. Raises UserError where there are none."""
    e, root = experiment, experiment.root
    if not learned:
        raise UserError(f"held_out={written(e.held_out)} leaves no task to learn; add points that are not held out")
    inject, model = None, identities.of_model(e.backbone)
    if not e.recipe.inject.is_left_out:
        zoos = tuple(learned.values()) if e.source is None else (zoo_of(replace(e, target=e.source), identities),)
        inject = Inject(root, zoos, e.backbone, model, e.generator, e.recipe.inject, e.seed, e.checkpoint_interval)
    tasks = tuple(member.task for member in learned.values())
    tune = Tune(root, tasks, e.backbone, model, e.generator, e.recipe.tune, e.seed, inject, e.checkpoint_interval)
    if zoo.task.name in e.held_out:
        tune = replace(tune, tasks=(zoo.task,), stage=e.recipe.adapt, start=tune)
    all_classes = with_labels(zoo.task, unseen=[])
    classical = Classical(root, all_classes, e.classical, e.seed)  # the baseline may see every class and its label
    few_shot = None
    if e.few_shot is not None:
        few_shot = FewShot(identities.of_data(e, e.few_shot.test), shots=tuple(e.few_shot.test_shots))
    return Evaluate(root, zoo, e.evaluate, e.seed, classical, tune, e.recipe.name, few_shot)


def zoo_of(experiment: Experiment, identities: Identities) -> Zoo:
    """The zoo, in steps of `zoo.chunk_size` networks. They do not depend on its size, so that a zoo can grow."""
    e, root, zoo = experiment, experiment.root, experiment.zoo
    task = identities.task_of(e)
    # Another order of the labels is another order of the output layer's rows, so one zoo serves all orders.
    canonical = with_labels(task, unseen=task.dataset.unseen)
    shared_epochs = zoo.shared_epochs if zoo.init == ZooInit.shared else 0
    few_shot = None if e.few_shot is None else FewShot(identities.of_data(e, e.few_shot.data), e.few_shot.episodes)
    starts = range(0, zoo.num_networks, zoo.chunk_size)
    counts = [min(zoo.chunk_size, zoo.num_networks - start) for start in starts]
    references = tuple(
        Reference(root, canonical, zoo.init, shared_epochs, zoo.training, e.seed, start, count, few_shot)
        for start, count in zip(starts, counts, strict=True)
    )
    return Zoo(task, references, zoo.align)


def with_labels(task: TaskSpec, unseen: list[str]) -> TaskSpec:
    """The task with its labels as they are, no lists of classes, and these classes unseen."""
    if task.dataset.relabel is None and task.dataset.ways is None and task.dataset.unseen == unseen:
        return task
    return replace(task, dataset=as_it_is(task.dataset, unseen))


def as_it_is(dataset: DatasetConfig, unseen: list[str]) -> DatasetConfig:
    """The data with all classes under their own labels; these are unseen."""
    return replace(dataset, relabel=None, unseen=unseen, ways=None, names={})


class Identities:
    """What a study reads, each looked at once, so that all its points agree on it."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskSpec] = {}
        self.models: dict[str, str | None] = {}

    def task_of(self, e: Experiment) -> TaskSpec:
        """The task with the identity of its data and code. Raises UserError where they cannot be found."""
        from neurogen.data.identity import identity, identity_of_target

        model = e.backbone.source
        name = repr((e.root, e.dataset, e.target, model if e.dataset.text else None))
        if name not in self.tasks:
            data, embed = identity(e.dataset), None
            if e.dataset.text is not None:
                embed = Embed(e.root, as_it_is(e.dataset, []), data, model, self.of_model(model))
            self.tasks[name] = TaskSpec(e.dataset, data, e.target, identity_of_target(e.target), embed)
        return self.tasks[name]

    def of_data(self, e: Experiment, dataset: DatasetConfig) -> TaskSpec:
        """The experiment's target on other data."""
        return self.task_of(replace(e, dataset=dataset))

    def of_model(self, model: ModelConfig) -> str | None:
        """As `identity_of_model`."""
        from neurogen.data.identity import identity_of_model

        name = repr(model)
        if name not in self.models:
            self.models[name] = identity_of_model(model)
        return self.models[name]
