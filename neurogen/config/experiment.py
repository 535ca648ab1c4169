"""The whole experiment: its sections, and where and how it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from neurogen.config.backbone import BackboneConfig
from neurogen.config.few_shot import FewShotConfig
from neurogen.config.generator import GeneratorConfig
from neurogen.config.identity import IF_SET
from neurogen.config.limits import NOT_NEGATIVE, POSITIVE
from neurogen.config.stages import EvaluateConfig, RecipeConfig
from neurogen.config.task import DatasetConfig, TargetConfig
from neurogen.config.zoo import ClassicalConfig, ZooConfig


class StepKind(StrEnum):
    """The steps of an experiment in their order, which name the folders below `root`."""

    embed = "embed"
    reference = "reference"
    classical = "classical"
    inject = "inject"
    tune = "tune"
    evaluate = "evaluate"
    sweeps = "sweeps"


class TaskSharing(StrEnum):
    """Which tasks a generator learns."""

    alone = "alone"  # that of its experiment
    together = "together"  # those of all experiments of a sweep that differ in nothing else


class Device(StrEnum):
    """Where steps run."""

    auto = "auto"  # a GPU where there is one
    cpu = "cpu"
    cuda = "cuda"


@dataclass(frozen=True)
class CheckpointInterval:
    """What lies between two checkpoints, whichever comes first; None: it does not count."""

    minutes: float | None
    steps: int | None


class StopAfter(StrEnum):
    """How far a command goes that prepares a run."""

    fetch = "fetch"  # what is read from outside is here
    check = "check"  # the site has what the jobs need


@dataclass
class GpuConfig:
    """The GPU that dry_run=true calculates with."""

    name: str
    memory_gb: float = field(metadata=POSITIVE)
    peak_tflops: float = field(metadata=POSITIVE)  # dense, bfloat16
    bandwidth_tb_per_s: float = field(metadata=POSITIVE)
    link_gb_per_s: float = field(metadata=POSITIVE)  # between the GPUs of a node, in one direction: NVLink
    network_gb_per_s: float = field(metadata=POSITIVE)  # between nodes: one card of 200 Gb/s
    utilisation: float = field(metadata=POSITIVE)  # assumed, of the peak
    ms_per_layer: float = field(metadata=NOT_NEGATIVE)  # launching the kernels of a backbone's layer, there and back
    ms_per_target_layer: float = field(metadata=NOT_NEGATIVE)  # a layer of one target network, there and back


@dataclass
class Experiment:
    """One point of a study: a dataset, a target, a backbone, a recipe and all other settings."""

    name: str
    study_name: str | None  # what the folder of a sweep is called; null: made of its points
    variant: str | None  # what tables call this point; null: the settings in which points differ
    seed: int
    tasks: TaskSharing
    held_out: list[str]  # DATASET-TARGET of points that the common generator does not learn, only meets
    root: str  # the folder of all results
    device: Device
    num_threads: int = field(metadata=NOT_NEGATIVE)  # 0: one per core
    batch_tokens: int = field(metadata=POSITIVE)  # that the backbone reads at once, at most; one context always fits
    deterministic: bool  # the same bits in every run also on a GPU, which makes it slower
    checkpoint_minutes: float | None = field(metadata=POSITIVE)  # between two checkpoints
    checkpoint_every: int | None = field(metadata=POSITIVE)  # optimiser steps; the end and a stop have one anyway
    dry_run: bool  # say what it would cost, and run nothing
    fetch: bool  # bring here what steps read from outside before any of them begins; false: each brings it itself
    site_check: bool  # before a sweep's jobs, let a short one see whether the nodes have what they need
    stop_after: StopAfter | None  # prepare, and go no further
    only: list[StepKind] | None  # run the steps of these kinds alone
    part: int = field(metadata=NOT_NEGATIVE)  # of these steps, run every `num_parts`-th from this one on
    num_parts: int = field(metadata=POSITIVE)  # size of the array of jobs that does this
    gpu: GpuConfig
    cluster: dict[str, Any]  # for the launcher of a sweep: hpc.jobs.cluster.Cluster
    zero: dict[str, Any]  # for several ranks: hpc.ranks.zero.Zero
    dataset: DatasetConfig
    target: TargetConfig
    source: TargetConfig | None  # the target of stage 1, where it is not that of stage 2 (paper 4.4)
    backbone: BackboneConfig
    few_shot: FewShotConfig | None = field(metadata={"identity": IF_SET})  # null: all classes are named
    zoo: ZooConfig
    classical: ClassicalConfig
    generator: GeneratorConfig
    recipe: RecipeConfig
    evaluate: EvaluateConfig

    @property
    def checkpoint_interval(self) -> CheckpointInterval:
        """When both stages save a checkpoint."""
        return CheckpointInterval(self.checkpoint_minutes, self.checkpoint_every)

    @property
    def cost_key(self) -> str:
        """Equal for experiments that cost the same: all that an estimate reads."""
        recipe = self.recipe
        stages = [
            (stage.steps, stage.epochs, stage.contexts_per_step, stage.optimizer, stage.keep)
            for stage in (recipe.inject, recipe.tune, *([recipe.adapt] if self.held_out else []))
        ]
        parts = (self.dataset, self.target, self.source, self.backbone, self.generator, self.gpu, self.batch_tokens)
        batch_sizes = recipe.tune.batch_size, recipe.adapt.batch_size if self.held_out else None
        return repr((parts, stages, batch_sizes, self.zoo.num_networks))
