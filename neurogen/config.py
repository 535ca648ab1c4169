"""The experiment as one typed value; experiment.py makes it from what Hydra composed.

The dataclasses of all components stand here rather than beside their components, because this module must not
import torch: `--cfg job`, the plan of a sweep and the display of a finished run need the config and nothing else.
Values have no defaults here: conf/ holds them, where `--cfg job` shows them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class TextConfig:
    """What of a table is a text and a label, and how targets read texts."""

    columns: list[str]  # joined to one text
    join: str
    label: str
    class_names: list[str] | None  # of the labels 0, 1, …; null: the hub's names, or the labels themselves
    test_split: str  # which split of the hub's dataset is test
    max_tokens: int  # longer texts are cut, for targets and contexts
    embedding_dim: int  # principal components of the backbone's embedding that the targets' frozen embedding keeps


@dataclass
class SizeConfig:
    """What dry_run=true has to know of data that is not there yet."""

    num_train: int
    validation_is_cut: bool  # whether validation is a part of these, or a split of its own
    num_classes: int
    image: list[int] | None  # channels, height, width


@dataclass
class DatasetConfig:
    """A labelled dataset. `load` names a function (config) → RawSplits; see neurogen/data."""

    name: str
    title: str  # what the instruction calls it
    load: str
    path: str | None = field(metadata={"identity": False})  # where the files are; what they are is in the identity
    limit: int | None  # use only this many training samples (validation included, where it is cut from them)
    validation_fraction: float
    split_seed: int
    resize: int | None = None  # images: side length in pixels; null keeps the size
    relabel: str | None = None  # random: every context names the classes in another order; null: as they are
    unseen: list[str] = field(default_factory=list)  # classes that only contexts of the evaluation show
    text: TextConfig | None = None  # texts: how they are read; null: the samples are images
    version: str | None = None  # of a function of the user's own; another version is another dataset
    size: SizeConfig | None = field(default=None, metadata={"identity": False})  # null: dry_run=true loads the data

    @property
    def modality(self) -> str:
        return "image" if self.text is None else "text"


@dataclass
class TargetConfig:
    """The architecture f whose parameters are generated. `build` names a function (DataShape, **options) → Module."""

    name: str
    title: str
    modality: str  # of the data that it classifies: image or text
    build: str
    options: dict[str, Any]
    version: str | None = None  # of a function of the user's own; another version is another target


@dataclass
class LoraConfig:
    rank: int
    alpha: int
    target_modules: list[str]


@dataclass
class PackageConfig:
    """A Python distribution that ships a model as a GGUF file."""

    distribution: str
    model: str  # which one it ships; looked for only where `backbone.model` asks for that


@dataclass
class ModelConfig:
    """Which language model; pretrained.py says where its weights are looked for."""

    model: str | None  # hub name or local folder
    package: PackageConfig | None  # where `model` may be found without a network
    architecture: dict[str, Any] | None  # transformers' config; null: as `model` says
    random_seed: int | None  # random weights of that architecture, for tests and timing; null: those of `model`


@dataclass
class BackboneConfig(ModelConfig):
    """The language model F and how it is used."""

    name: str
    vision: bool  # whether it reads images itself; without, they come through a trained patch embedding
    num_layers: int | None  # only the first so many; null: all
    chat_template: bool  # whether instruction and context stand in a user's message, where the tokenizer knows how
    attention: str
    gradient_checkpointing: bool = field(metadata={"identity": False})  # less memory, half as much time again
    lora: LoraConfig

    @property
    def source(self) -> ModelConfig:
        return ModelConfig(**{item.name: getattr(self, item.name) for item in fields(ModelConfig)})


@dataclass
class TrainingConfig:
    """How target networks are trained by gradient descent."""

    epochs: int
    batch_size: int
    lr: float
    schedule: str  # cosine: to 0, keep the epoch of the best accuracy on validation; constant: keep the last epoch
    weight_decay: float


@dataclass
class ZooConfig:
    num_networks: int
    chunk_size: int  # networks per step, so per array task on a cluster
    init: str  # shared: one start, other data order; independent: other initial weights too
    shared_epochs: int  # how long the networks of a shared start are trained as one before their orders part
    align: str  # none, or rebasin: permute hidden units towards the first network
    training: TrainingConfig


@dataclass
class ClassicalConfig:
    """The opponent: the same target on the same data, trained to convergence on validation, from independent seeds."""

    num_networks: int
    training: TrainingConfig


@dataclass
class GeneratorConfig:
    order: str  # context_first, tokens_first (the paper's formula), or interleaved (rows of the output layer by class)
    tokens: str  # free: a vector per parameter token (paper); composed: of a shared one, its tensor's and its chunk's
    projection: str  # shared, per_token or low_rank
    projection_hidden: int  # width of the shared projection's hidden layer; 0: linear
    projection_rank: int  # rank of projection=low_rank
    scale: str  # zscore (moments of the zoo) or fan_in (needs no zoo)
    soft_clip: float | None  # alpha of alpha*tanh(w/alpha); null: off
    context_samples: int  # samples that the backbone reads
    context_warmup: float  # fraction of the stage-1 steps that see a stage-2 shaped context
    drop_instruction: float  # fraction of the contexts, in both stages, that come without the instruction
    drop_data: float  # the same of instructions that come without data
    foreign_data: float  # the same with data of another task, where one of the generator's can stand there: the
    # instruction then counts


@dataclass
class StageConfig:
    """Optimisation of one stage. Its length is `steps`, or `epochs` where steps is null."""

    steps: int | None
    epochs: int | None
    optimizer: str  # adamw or sgd
    beta2: float  # adamw's memory of squared gradients
    lr: float
    token_lr_scale: float  # the parameter tokens learn this many times as fast as the rest
    schedule: str  # cosine, or halving every `halve_every` epochs
    halve_every: int
    warmup_steps: int
    weight_decay: float
    clip_norm: float
    contexts_per_step: int  # networks generated per step
    validate_every: int
    keep: str  # last, or best: the values of the best accuracy on validation


@dataclass
class TuneConfig(StageConfig):
    batch_size: int  # samples that the loss reads, per network; the first of them are the context
    anchor: float  # how much of stage 1's loss is kept beside the cross-entropy; 0: none (paper)


@dataclass
class RecipeConfig:
    name: str
    inject: StageConfig
    tune: TuneConfig
    adapt: TuneConfig  # stage 2 of what `held_out` names, from the generator of the others


@dataclass
class EvaluateConfig:
    num_contexts: int
    num_in_ensemble: int  # networks whose probabilities are averaged


@dataclass
class GpuConfig:
    """The GPU that dry_run=true calculates with."""

    name: str
    memory_gb: float
    peak_tflops: float  # dense, bfloat16
    bandwidth_tb_per_s: float
    link_gb_per_s: float  # between the GPUs of a node
    network_gb_per_s: float  # between nodes
    utilisation: float  # assumed, of the peak
    ms_per_layer: float  # assumed: Python and the start of kernels, for a layer there and back


@dataclass
class Experiment:
    """One point of a study: a dataset, a target, a backbone, a recipe."""

    name: str
    study_name: str | None  # what a sweep's folder is called; null: by its points
    variant: str | None  # what tables call this point; null: the settings in which points differ
    seed: int
    tasks: str  # alone: a generator of this task; together: one for all points of a sweep that differ in their task
    held_out: list[str]  # DATASET-TARGET of points that the common generator does not learn, only meets
    root: str
    device: str  # auto, cpu or cuda
    num_threads: int  # 0: one per core
    checkpoint_every: int  # optimiser steps
    dry_run: bool  # say what it would cost, and run nothing
    only: list[str] | None  # run the steps of these kinds alone
    part: int  # of these steps, run every `num_parts`-th from this one on: the index of an array of jobs
    num_parts: int
    gpu: GpuConfig
    cluster: dict[str, Any]  # for the launcher of a sweep: hpc.jobs.cluster.Cluster
    zero: dict[str, Any]  # for several ranks: hpc.ranks.zero.Zero
    dataset: DatasetConfig
    target: TargetConfig
    source: TargetConfig | None  # the target of stage 1, where it is another one than that of stage 2 (paper 4.4)
    backbone: BackboneConfig
    zoo: ZooConfig
    classical: ClassicalConfig
    generator: GeneratorConfig
    recipe: RecipeConfig
    evaluate: EvaluateConfig


def task_name(dataset: DatasetConfig, target: TargetConfig) -> str:
    return f"{dataset.name}-{target.name}"
