"""The steps of an experiment, as a graph.

    embed (texts) ─► reference (zoo) ─┬─► inject ─► tune ─► evaluate ─► aggregate
                     classical ───────┴──────────────────────┘

Equal steps of several experiments are one step.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from neurogen.config import (
    BackboneConfig,
    ClassicalConfig,
    DatasetConfig,
    EvaluateConfig,
    Experiment,
    GeneratorConfig,
    ModelConfig,
    StageConfig,
    TargetConfig,
    TrainingConfig,
    TuneConfig,
    task_name,
)
from neurogen.errors import Interrupted, UserError
from neurogen.step import Step, plain

if TYPE_CHECKING:
    from neurogen.data.dataset import Dataset
    from neurogen.runtime import Runtime


@dataclass(frozen=True)
class Task:
    """What a target network is for: the data (with the identity of the files it reads) and the architecture."""

    dataset: DatasetConfig
    data_identity: str
    target: TargetConfig
    embed: Embed | None  # where the data is text

    @property
    def label(self) -> str:
        return task_name(self.dataset, self.target)

    def load(self) -> Dataset:
        """Raises UserError as the dataset's loader does."""
        from neurogen.data.dataset import load_images
        from neurogen.data.tokenised import load_texts

        return load_images(self.dataset) if self.embed is None else load_texts(self.dataset, self.embed.folder)


@dataclass(frozen=True)
class Embed(Step):
    """Texts as all targets read them: tokens of the backbone's tokenizer, its embedding reduced (paper 4.1)."""

    kind, version, runs = "embed", 1, "neurogen.embed:embed"

    dataset: DatasetConfig
    data_identity: str
    model: ModelConfig

    @property
    def label(self) -> str:
        return self.dataset.name


def array_of(task: Task, seed: int) -> str:
    """All networks that are trained by gradient descent for a task and a seed."""
    return json.dumps([plain(task, identity=True), seed], sort_keys=True)


@dataclass(frozen=True)
class Reference(Step):
    """Some networks of the zoo, w_i ~ W (paper 3.3.1): seeds first_seed … first_seed + num_networks − 1."""

    kind, version, runs = "reference", 1, "neurogen.zoo:train_reference"

    task: Task
    init: str
    shared_epochs: int
    training: TrainingConfig
    seed: int
    first: int
    num_networks: int

    @property
    def label(self) -> str:
        return f"{self.task.label}-{self.init}"

    @property
    def array(self) -> str | None:
        return array_of(self.task, self.seed)


@dataclass(frozen=True)
class Classical(Step):
    """The opponent: independent networks trained to convergence on validation."""

    kind, version, runs = "classical", 1, "neurogen.zoo:train_classical"

    task: Task
    classical: ClassicalConfig
    seed: int

    @property
    def label(self) -> str:
        return self.task.label

    @property
    def array(self) -> str | None:
        return array_of(self.task, self.seed)


@dataclass(frozen=True)
class Inject(Step):
    """Stage 1 (paper 3.3)."""

    kind, version, runs, shared = "inject", 2, "neurogen.inject:inject", True

    task: Task
    backbone: BackboneConfig
    generator: GeneratorConfig
    stage: StageConfig
    align: str
    seed: int
    references: tuple[Reference, ...]
    checkpoint_every: int = field(metadata={"identity": False})

    @property
    def label(self) -> str:
        return f"{self.task.label}-{self.backbone.name}"


@dataclass(frozen=True)
class Tune(Step):
    """Stage 2 (paper 3.4). Without `inject` it is the paper's ablation, stage 2 only; it may be for another target
    (paper 4.4)."""

    kind, version, runs, shared = "tune", 2, "neurogen.tune:tune", True

    task: Task
    backbone: BackboneConfig
    generator: GeneratorConfig
    stage: TuneConfig
    seed: int
    inject: Inject | None
    checkpoint_every: int = field(metadata={"identity": False})

    @property
    def label(self) -> str:
        return f"{self.task.label}-{self.backbone.name}"


@dataclass(frozen=True)
class Evaluate(Step):
    """Test accuracy of generated networks beside all comparators."""

    kind, version, runs = "evaluate", 3, "neurogen.evaluate:evaluate"

    task: Task
    evaluate: EvaluateConfig
    align: str
    seed: int
    references: tuple[Reference, ...]
    classical: Classical
    tune: Tune
    recipe: str

    @property
    def label(self) -> str:
        return self.tune.label


@dataclass(frozen=True)
class Aggregate(Step):
    """Tables and plots over evaluations."""

    kind, version, runs = "sweeps", 3, "neurogen.aggregate:aggregate"

    name: str
    evaluations: tuple[Evaluate, ...]
    variants: tuple[str | None, ...]  # what tables call each of them

    @property
    def label(self) -> str:
        return self.name


def steps_of(experiments: Sequence[Experiment]) -> Aggregate:
    """The last step of a study of one or more points; everything else hangs on it, equal steps being one step.

    Raises UserError where the data cannot be found, or the points are not under one root.
    """
    roots = sorted({experiment.root for experiment in experiments})
    if len(roots) > 1:
        raise UserError(f"the points of a sweep have the roots {', '.join(roots)}; give one root=FOLDER for all")
    points = {step.key: (step, e.variant) for step, e in zip(map(evaluation_of, experiments), experiments, strict=True)}
    evaluations, variants = zip(*points.values(), strict=True)
    return Aggregate(roots[0], study_name(experiments), evaluations, variants)


def study_name(experiments: Sequence[Experiment]) -> str:
    """The study's name, or the experiment's, or those of a few datasets, or how many points there are."""
    studies = {experiment.study for experiment in experiments}
    if len(studies) == 1 and (study := studies.pop()):
        return study
    names = list(dict.fromkeys(experiment.name for experiment in experiments))
    if len(names) == 1:
        return names[0]
    datasets = "+".join(dict.fromkeys(experiment.dataset.name for experiment in experiments))
    return f"{datasets}-{len(names)}-points" if len(datasets) < 60 else f"{len(names)}-points"


def evaluation_of(experiment: Experiment) -> Evaluate:
    from neurogen.data import identity

    e, root = experiment, experiment.root
    data = identity(e.dataset)
    embed = Embed(root, e.dataset, data, e.backbone.source) if e.dataset.text is not None else None
    task = Task(e.dataset, data, e.target, embed)
    references = _references(experiment, task)
    source = task if e.source is None else replace(task, target=e.source)
    classical = Classical(root, task, e.classical, e.seed)
    inject = None
    if e.recipe.inject.steps != 0:
        zoo = _references(experiment, source)
        inject = Inject(
            root, source, e.backbone, e.generator, e.recipe.inject, e.zoo.align, e.seed, zoo, e.checkpoint_every
        )
    tune = Tune(root, task, e.backbone, e.generator, e.recipe.tune, e.seed, inject, e.checkpoint_every)
    return Evaluate(root, task, e.evaluate, e.zoo.align, e.seed, references, classical, tune, e.recipe.name)


def _references(experiment: Experiment, task: Task) -> tuple[Reference, ...]:
    """The zoo in chunks of `zoo.chunk_size` networks. Its size is no part of a chunk, so a zoo can grow."""
    root, seed, zoo = experiment.root, experiment.seed, experiment.zoo
    shared_epochs = zoo.shared_epochs if zoo.init == "shared" else 0
    return tuple(
        Reference(
            root,
            task,
            zoo.init,
            shared_epochs,
            zoo.training,
            seed,
            first,
            min(zoo.chunk_size, zoo.num_networks - first),
        )
        for first in range(0, zoo.num_networks, zoo.chunk_size)
    )


def in_order(last: Step) -> list[Step]:
    """All steps that `last` hangs on, itself included, each once and after what it needs."""
    ordered: dict[str, Step] = {}

    def visit(step: Step) -> None:
        for needed in step.needs:
            visit(needed)
        ordered.setdefault(f"{step.kind}-{step.key}", step)

    visit(last)
    return list(ordered.values())


def chosen(last: Step, only: Sequence[str] | None, part: int, num_parts: int) -> list[Step]:
    """The steps of these kinds (None: all), every `num_parts`-th of them from `part` on, each after what it needs."""
    if only is None:
        return in_order(last)
    steps = [step for step in in_order(last) if step.kind in only][part::num_parts]
    needed = {step.key: step for one in steps if one.kind != Aggregate.kind for step in in_order(one)}
    return [*needed.values(), *(step for step in steps if step.key not in needed)]


def run_here(steps: Sequence[Step], runtime: Runtime) -> None:
    """Run what is not done, one step after the other; with several ranks, what one process does is rank 0's."""
    undone = runtime.ranks.first([not step.is_done for step in steps])  # as rank 0 sees it
    steps = [step for step, is_undone in zip(steps, undone, strict=True) if is_undone]
    for number, step in enumerate(steps, start=1):
        if runtime.any_stops():
            raise Interrupted
        if runtime.is_first:
            print(f"[{number}/{len(steps)}] {step.kind} {step.label}", flush=True)
        if step.shared:
            step.run(runtime)
        elif runtime.is_first:
            step.run(runtime.alone())
        runtime.ranks.first(None)  # the others wait for rank 0
