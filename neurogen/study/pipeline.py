"""The kinds of steps, each with its fields and with the steps that it needs.

    embed (texts) ─► reference (zoo) ─┬─► inject ─► tune ─► evaluate ─► aggregate
                     classical ───────┴──────────────────────┘

in:  fields, which graph.py fills from experiments
out: steps, which execution.py puts in order and runs

Both stages may be of several tasks: then each task has its own zoo and its own evaluation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from neurogen.config import (
    IF_SET,
    Alignment,
    BackboneConfig,
    CheckpointInterval,
    ClassicalConfig,
    EpisodesConfig,
    EvaluateConfig,
    GeneratorConfig,
    StageConfig,
    StepKind,
    TrainingConfig,
    TuneConfig,
    ZooInit,
)
from neurogen.study.results import EvaluationResult, HistoryRow, TrainedNetworks, from_json
from neurogen.study.step import Step, plain
from neurogen.study.task_spec import TaskSpec

if TYPE_CHECKING:
    from neurogen.downloads.repository import Repository

SMALLER_DATA = "dataset.limit or dataset.resize"
SMALLER_PASSES = "batch_tokens or generator.context_samples"
SMALLER_STAGE = "set backbone.gradient_checkpointing=true, take a smaller backbone, or lower"
LONGEST_LABEL = 80  # characters; a folder's name has at most 255


def array_of(task: TaskSpec, seed: int) -> str:
    """All networks that are trained by gradient descent for a task and a seed."""
    return json.dumps([plain(task, identity=True), seed], sort_keys=True)


@dataclass(frozen=True)
class FewShot:
    """A dataset whose classes are shown to target networks by samples."""

    task: TaskSpec
    episodes: EpisodesConfig | None = field(default=None, metadata={"identity": IF_SET})  # how a zoo learns from it
    shots: tuple[int, ...] = field(default=(), metadata={"identity": IF_SET})  # samples of each class in an evaluation


@dataclass(frozen=True)
class Reference(Step):
    """Networks first … first + num_networks − 1 of the zoo, w_i ~ W (paper 3.3.1)."""

    kind, version, runs = StepKind.reference, 1, "neurogen.stages.reference:train_reference"
    to_save_memory = f"lower zoo.training.batch_size, zoo.chunk_size, {SMALLER_DATA}"

    task: TaskSpec
    init: ZooInit
    shared_epochs: int
    training: TrainingConfig
    seed: int
    first: int
    num_networks: int
    few_shot: FewShot | None = field(default=None, metadata={"identity": IF_SET})

    @property
    def label(self) -> str:
        """The task, and what its networks have in common."""
        return f"{self.task.name}-{self.init}"

    @property
    def array(self) -> str | None:
        """All networks of the task and seed."""
        return array_of(self.task, self.seed)


@dataclass(frozen=True)
class Classical(Step):
    """The classical baseline: independent networks, each trained to convergence on validation."""

    kind, version, runs = StepKind.classical, 1, "neurogen.stages.reference:train_classical"
    to_save_memory = f"lower classical.training.batch_size, {SMALLER_DATA}"

    task: TaskSpec
    classical: ClassicalConfig
    seed: int

    @property
    def label(self) -> str:
        """The task."""
        return self.task.name

    @property
    def array(self) -> str | None:
        """All networks of the task and seed."""
        return array_of(self.task, self.seed)

    def result(self) -> TrainedNetworks:
        """What the finished step measured. Raises UserError where its metrics.json has another form."""
        return from_json(TrainedNetworks, self.metrics(), self.folder)


@dataclass(frozen=True)
class Zoo:
    """All reference networks of a task, and how they are aligned with each other."""

    task: TaskSpec
    references: tuple[Reference, ...]
    align: Alignment


def repositories_of(backbone: BackboneConfig) -> tuple[Repository, ...]:
    """The repository of the Hub that a backbone is read from, if there is one."""
    from neurogen.downloads.models import repository_of

    repository = repository_of(backbone)
    return () if repository is None else (repository,)


@dataclass(frozen=True)
class Inject(Step):
    """Stage 1 (paper 3.3), of one task or several."""

    kind, version, runs, shared = StepKind.inject, 4, "neurogen.stages.inject:inject", True
    to_save_memory = f"{SMALLER_STAGE} {SMALLER_PASSES}"

    zoos: tuple[Zoo, ...]
    backbone: BackboneConfig
    model_identity: str | None
    generator: GeneratorConfig
    stage: StageConfig
    seed: int
    checkpoint_interval: CheckpointInterval = field(metadata={"identity": False})

    @property
    def repositories(self) -> tuple[Repository, ...]:
        """That of the backbone."""
        return repositories_of(self.backbone)

    @property
    def tasks(self) -> tuple[TaskSpec, ...]:
        """The tasks that the generator learns."""
        return tuple(zoo.task for zoo in self.zoos)

    @property
    def label(self) -> str:
        """The tasks and the backbone."""
        return f"{label_of(self.tasks)}-{self.backbone.name}"


@dataclass(frozen=True)
class Tune(Step):
    """Stage 2 (paper 3.4), of one task or several.

    Without `start` it is the paper's ablation, stage 2 only. Its tasks may differ from those that the generator knows
    so far (paper 4.4).
    """

    kind, version, runs, shared = StepKind.tune, 4, "neurogen.stages.tune:tune", True
    to_save_memory = f"{SMALLER_STAGE} recipe.tune.batch_size, {SMALLER_PASSES}"

    tasks: tuple[TaskSpec, ...]
    backbone: BackboneConfig
    model_identity: str | None
    generator: GeneratorConfig
    stage: TuneConfig
    seed: int
    start: Inject | Tune | None
    checkpoint_interval: CheckpointInterval = field(metadata={"identity": False})

    @property
    def repositories(self) -> tuple[Repository, ...]:
        """That of the backbone."""
        return repositories_of(self.backbone)

    @property
    def stages(self) -> tuple[Inject | Tune, ...]:
        """All stages of the generator in order, this one last."""
        before = self.start.stages if isinstance(self.start, Tune) else (self.start,) if self.start else ()
        return (*before, self)

    @property
    def inject(self) -> Inject | None:
        """Stage 1, where there was one."""
        first = self.stages[0]
        return first if isinstance(first, Inject) else None

    @property
    def label(self) -> str:
        """The tasks and the backbone."""
        return f"{label_of(self.tasks)}-{self.backbone.name}"


def label_of(tasks: Sequence[TaskSpec]) -> str:
    """The names of the tasks, or how many there are."""
    label = "+".join(task.name for task in tasks)
    return label if len(label) <= LONGEST_LABEL else f"{len(tasks)}-tasks"


@dataclass(frozen=True)
class Evaluate(Step):
    """Test accuracy of generated networks beside all baselines."""

    kind, version, runs = StepKind.evaluate, 9, "neurogen.stages.evaluate:evaluate"
    to_save_memory = f"take a smaller backbone, or lower {SMALLER_PASSES}"

    zoo: Zoo
    evaluate: EvaluateConfig
    seed: int
    classical: Classical
    tune: Tune
    recipe: str
    few_shot: FewShot | None = field(default=None, metadata={"identity": IF_SET})

    @property
    def repositories(self) -> tuple[Repository, ...]:
        """That of the backbone."""
        return repositories_of(self.tune.backbone)

    @property
    def task(self) -> TaskSpec:
        """The task whose networks are evaluated."""
        return self.zoo.task

    @property
    def learns_all_classes(self) -> bool:
        """Whether a generated network has to tell all classes apart that the classical networks do."""
        return self.task.dataset.ways is None and not self.task.dataset.unseen

    def result(self) -> EvaluationResult:
        """What the finished step measured. Raises UserError where its metrics.json has another form."""
        return from_json(EvaluationResult, self.metrics(), self.folder)

    def history(self, stage: Inject | Tune) -> list[HistoryRow]:
        """What a finished stage measured of this task: of several tasks, its own steps and its own accuracy."""
        rows, names = stage.metrics()["history"], [task.name for task in stage.tasks]
        if self.task.name in names and len(names) > 1:
            rows = [self._of_this_task(row, names) for row in rows]
        return from_json(list[HistoryRow], rows, stage.folder)

    def _of_this_task(self, row: dict[str, float], names: list[str]) -> dict[str, float]:
        """Tasks take turns, one a step; validation measures all of them."""
        is_turn = (row["step"] - 1) % len(names) == names.index(self.task.name)
        kept = {key: value for key, value in row.items() if key != "loss" or is_turn}
        if "validation_accuracy" in row:
            kept["validation_accuracy"] = row[f"validation_accuracy/{self.task.name}"]
        return kept

    @property
    def label(self) -> str:
        """The task and the backbone."""
        return f"{self.task.name}-{self.tune.backbone.name}"


@dataclass(frozen=True)
class Aggregate(Step):
    """Tables and plots over evaluations."""

    kind, version, runs = StepKind.sweeps, 6, "neurogen.aggregate:aggregate"

    name: str
    evaluations: tuple[Evaluate, ...]
    variants: tuple[str | None, ...]  # what tables call each of them

    @property
    def label(self) -> str:
        """The name of the study, or what stands for it."""
        return self.name


def tasks_read(step: Step) -> tuple[TaskSpec, ...]:
    """The tasks whose data a step reads."""
    match step:
        case Reference():
            return (step.task, *([step.few_shot.task] if step.few_shot else []))
        case Classical():
            return (step.task,)
        case Inject():
            return step.tasks
        case Tune():
            return (*step.tasks, *(step.start.tasks if step.start else ()))
        case Evaluate():
            return (step.task, *step.tune.tasks, *([step.few_shot.task] if step.few_shot else []))
        case Aggregate():  # its plots show samples
            return tuple(evaluation.task for evaluation in step.evaluations)
    return ()
