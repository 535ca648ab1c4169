"""From experiments to steps: equal steps of several points are one step, and points may share a generator.

With tasks=together one generator learns the tasks of all points that differ in nothing but their task, save those that
`held_out` names: these it meets after stage 2, in recipe.adapt.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from neurogen.config import Experiment
from neurogen.errors import UserError
from neurogen.study.pipeline import Aggregate, Classical, Embed, Evaluate, Inject, Reference, TaskSpec, Tune, Zoo
from neurogen.study.step import plain

Learned = dict[str, Zoo]  # by the label of the task


def steps_of(experiments: Sequence[Experiment]) -> Aggregate:
    """The last step of a study of one or more points; everything else hangs on it, equal steps being one step.

    Raises UserError where the data cannot be found, or the points are not under one root.
    """
    roots = sorted({experiment.root for experiment in experiments})
    if len(roots) > 1:
        raise UserError(f"the points of a sweep have the roots {', '.join(roots)}; give one root=FOLDER for all")
    points: dict[str, tuple[Evaluate, set[str | None]]] = {}
    for evaluation, e in zip(evaluations_of(experiments), experiments, strict=True):
        points.setdefault(evaluation.key, (evaluation, set()))[1].add(e.variant)
    evaluations, variants = zip(*points.values(), strict=True)
    # how tasks are met that were held out does not tell of those that were learned
    called = tuple(own.pop() if len(own) == 1 else "learned" for own in variants)
    return Aggregate(roots[0], study_name(experiments), evaluations, called)


def study_name(experiments: Sequence[Experiment]) -> str:
    """The study's name, or the experiment's, or those of a few datasets, or how many points there are."""
    studies = {experiment.study_name for experiment in experiments}
    if len(studies) == 1 and (study := studies.pop()):
        return study
    names = list(dict.fromkeys(experiment.name for experiment in experiments))
    if len(names) == 1:
        return names[0]
    datasets = "+".join(dict.fromkeys(experiment.dataset.name for experiment in experiments))
    return f"{datasets}-{len(names)}-points" if len(datasets) < 60 else f"{len(names)}-points"


def evaluations_of(experiments: Sequence[Experiment]) -> list[Evaluate]:
    """One for every point. Raises UserError where points that are to share a generator cannot, or do not."""
    zoos = [zoo_of(experiment) for experiment in experiments]
    _require_points_of(sorted({name for e in experiments for name in e.held_out}), zoos)
    learned: dict[str, Learned] = defaultdict(dict)
    for e, zoo in zip(experiments, zoos, strict=True):
        if zoo.task.name not in e.held_out:
            known = learned[sharing_of(e, zoo)].setdefault(zoo.task.name, zoo)
            if known != zoo:
                raise UserError(
                    f"tasks=together: two points have the task {zoo.task.name} in different forms; "
                    "vary its dataset, target and zoo in sweeps of their own"
                )
    for e, zoo in zip(experiments, zoos, strict=True):
        if e.tasks == "together" and not e.held_out and len(learned[sharing_of(e, zoo)]) < 2:
            raise UserError(
                f"tasks=together: no other point shares a generator with {zoo.task.name}; give several tasks, as in "
                "-m dataset=digits,mnist5k preset=together, with the same backbone, recipe and seed"
            )
    return [evaluation_of(e, zoo, learned[sharing_of(e, zoo)]) for e, zoo in zip(experiments, zoos, strict=True)]


def _require_points_of(held_out: Sequence[str], zoos: Sequence[Zoo]) -> None:
    labels = sorted({zoo.task.name for zoo in zoos})
    for name in held_out:
        if name not in labels:
            raise UserError(f"held_out names {name}, which is no task of these points; allowed: {', '.join(labels)}")


def sharing_of(experiment: Experiment, zoo: Zoo) -> str:
    """Points with the same one share a generator: for tasks=together all that its training depends on but the task."""
    e = experiment
    if e.tasks == "alone":
        return json.dumps([plain(e, identity=True), plain(zoo, identity=True)], sort_keys=True)
    parts = (e.backbone, e.generator, e.recipe)
    return json.dumps([e.seed, e.held_out, *(plain(part, identity=True) for part in parts)], sort_keys=True)


def evaluation_of(experiment: Experiment, zoo: Zoo, learned: Learned) -> Evaluate:
    """A point whose generator has learned these tasks. Raises UserError where there are none."""
    e, root = experiment, experiment.root
    if not learned:
        raise UserError(f"held_out={e.held_out} leaves no task to learn; add points that are not held out")
    inject = None
    if e.recipe.inject.steps != 0:
        zoos = tuple(learned.values()) if e.source is None else (zoo_of(replace(e, target=e.source)),)
        inject = Inject(root, zoos, e.backbone, e.generator, e.recipe.inject, e.seed, e.checkpoint_every)
    tasks = tuple(one.task for one in learned.values())
    tune = Tune(root, tasks, e.backbone, e.generator, e.recipe.tune, e.seed, inject, e.checkpoint_every)
    if zoo.task.name in e.held_out:
        tune = replace(tune, tasks=(zoo.task,), stage=e.recipe.adapt, start=tune)
    plain = replace(zoo.task, dataset=replace(zoo.task.dataset, relabel=None, unseen=[]))  # it may know everything
    classical = Classical(root, plain, e.classical, e.seed)
    return Evaluate(root, zoo, e.evaluate, e.seed, classical, tune, e.recipe.name)


def zoo_of(experiment: Experiment) -> Zoo:
    """The zoo in chunks of `zoo.chunk_size` networks. Its size is no part of a chunk, so a zoo can grow."""
    e, root, zoo = experiment, experiment.root, experiment.zoo
    task = task_of(experiment)
    canonical = replace(task, dataset=replace(task.dataset, relabel=None))  # other labels are other rows of the same
    shared_epochs = zoo.shared_epochs if zoo.init == "shared" else 0
    firsts = range(0, zoo.num_networks, zoo.chunk_size)
    counts = [min(zoo.chunk_size, zoo.num_networks - first) for first in firsts]
    references = tuple(
        Reference(root, canonical, zoo.init, shared_epochs, zoo.training, e.seed, first, count)
        for first, count in zip(firsts, counts, strict=True)
    )
    return Zoo(task, references, zoo.align)


def task_of(experiment: Experiment) -> TaskSpec:
    """Raises UserError where the data cannot be found."""
    from neurogen.data import identity

    dataset, plain_labels = experiment.dataset, replace(experiment.dataset, relabel=None, unseen=[])
    data = identity(dataset)
    embed = None
    if dataset.text is not None:
        embed = Embed(experiment.root, plain_labels, data, experiment.backbone.source)
    return TaskSpec(dataset, data, experiment.target, embed)
