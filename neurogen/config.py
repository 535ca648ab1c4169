"""The experiment as one typed value: Hydra's composition goes in, an `Experiment` comes out, validated.

The dataclasses of all components stand here rather than beside their components, because this module must not
import torch: `--cfg job`, the plan of a sweep and the display of a finished run need the config and nothing else.
Values have no defaults here: conf/ holds them, where `--cfg job` shows them.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, cast, get_type_hints

from neurogen.errors import UserError, one_of

KINDS = ("embed", "reference", "classical", "inject", "tune", "evaluate", "sweeps")
MODALITIES = ("image", "text")


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
    text: TextConfig | None = None  # texts: how they are read; null: the samples are images
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


ZOO_INITS = ("shared", "independent")


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
    order: str  # context_first, or tokens_first (the paper's formula)
    projection: str  # shared, per_token or low_rank
    projection_hidden: int  # width of the shared projection's hidden layer; 0: linear
    projection_rank: int  # rank of projection=low_rank
    scale: str  # zscore (moments of the zoo) or fan_in (needs no zoo)
    soft_clip: float | None  # alpha of alpha*tanh(w/alpha); null: off
    context_samples: int  # samples that the backbone reads
    context_warmup: float  # fraction of the stage-1 steps that see a stage-2 shaped context


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
    by_zoo_init: dict[str, Any]  # values that `tune` takes over by interpolation, as zoo.init chooses
    inject: StageConfig
    tune: TuneConfig


@dataclass
class EvaluateConfig:
    num_contexts: int


@dataclass
class GpuConfig:
    """The GPU that dry_run=true calculates with."""

    name: str
    memory_gb: float
    peak_tflops: float  # dense, bfloat16
    bandwidth_tb_per_s: float
    utilisation: float  # assumed, of the peak
    ms_per_layer: float  # assumed: Python and the start of kernels, for a layer there and back


@dataclass
class Experiment:
    """One point of a study: one dataset, one target, one backbone, one recipe."""

    name: str
    seed: int
    root: str
    device: str  # auto, cpu or cuda
    num_threads: int  # 0: one per core
    checkpoint_every: int  # optimiser steps
    dry_run: bool  # say what it would cost, and run nothing
    only: list[str] | None  # run the steps of these kinds alone
    part: int  # of these steps, run every `num_parts`-th from this one on: the index of an array of jobs
    num_parts: int
    gpu: GpuConfig
    cluster: dict[str, Any]  # for the launcher of a sweep: hpc.cluster.Cluster
    dataset: DatasetConfig
    target: TargetConfig
    backbone: BackboneConfig
    zoo: ZooConfig
    classical: ClassicalConfig
    generator: GeneratorConfig
    recipe: RecipeConfig
    evaluate: EvaluateConfig


@dataclass
class Request:
    """What `neurogen.generate` is asked for; its help text says what each key means."""

    generator: str
    instruction: str | None = None
    samples: str | None = None
    test: str | None = None
    out: str = "network.safetensors"
    num_networks: int = 1
    task: str | None = None
    seed: int = 0
    device: str = "auto"
    num_threads: int = 0


def task_name(dataset: DatasetConfig, target: TargetConfig) -> str:
    return f"{dataset.name}-{target.name}"


Section = TypeVar("Section")


def typed(section: type[Section], values: Any) -> Section:
    """A mapping → the dataclass `section`. Raises UserError on unknown keys, missing ones and wrong types."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return cast(Section, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(section), values)))
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or ""
        raise UserError(f"config {key}: {str(error).splitlines()[0]}{allowed_beside(key, section)}") from error


def experiment_from(composed: Any) -> Experiment:
    """Hydra's DictConfig → validated Experiment. Raises UserError."""
    one_of("zoo.init", composed.zoo.init, ZOO_INITS)  # first, because the recipe interpolates by it
    experiment = typed(Experiment, composed)
    validate(experiment)
    return experiment


def allowed_beside(key: str, section: Any = Experiment) -> str:
    """'; allowed: …' with the fields around `key`, where `key` is not one of them."""
    *outer, last = key.split(".")
    for part in outer:
        section = get_type_hints(section).get(part)
        if not is_dataclass(section):
            return ""
    names = [item.name for item in fields(section)]
    return "" if last in names else f"; allowed: {', '.join(names)}"


def named_function(key: str, dotted: str) -> Callable[..., Any]:
    """The function that the config names, `key`=package.module.function. Raises UserError when there is none."""
    module, _, function = dotted.rpartition(".")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{key}={dotted} is no importable function ({error})") from error
    return found


def validate(experiment: Experiment) -> None:
    """Refuse what cannot work, before anything is trained or queued. Raises UserError."""
    for section in ("dataset.", "target.", "backbone.", "recipe.", ""):
        name = getattr(experiment, section[:-1]).name if section else experiment.name
        if not re.fullmatch(r"[\w-]+", name):
            raise UserError(f"{section}name={name} becomes part of a folder's name; use letters, digits, _ and -")
    one_of("device", experiment.device, ("auto", "cpu", "cuda"))
    for kind in experiment.only or []:
        one_of("only", kind, KINDS)
    _require("experiment", experiment, ("num_parts",), ("part",))
    if experiment.part >= experiment.num_parts:
        raise UserError(f"part={experiment.part} must be below num_parts={experiment.num_parts}")
    _validate_modality(experiment)
    _validate_backbone(experiment.backbone)
    one_of("zoo.align", experiment.zoo.align, ("none", "rebasin"))
    _require("zoo", experiment.zoo, ("num_networks", "chunk_size"), ("shared_epochs",))
    _require("classical", experiment.classical, ("num_networks",))
    for name, training in (("zoo", experiment.zoo.training), ("classical", experiment.classical.training)):
        one_of(f"{name}.training.schedule", training.schedule, ("cosine", "constant"))
        _require(f"{name}.training", training, ("epochs", "batch_size", "lr"), ("weight_decay",))
    if not 0 < experiment.dataset.validation_fraction < 1:
        raise UserError(
            f"dataset.validation_fraction={experiment.dataset.validation_fraction} must lie between 0 and 1, exclusive"
        )
    _require("dataset", experiment.dataset, ("resize", "limit"), ("split_seed",))
    _require("evaluate", experiment.evaluate, ("num_contexts",))
    _require("experiment", experiment, ("checkpoint_every",), ("num_threads",))
    _require(
        "gpu", experiment.gpu, ("memory_gb", "peak_tflops", "bandwidth_tb_per_s", "utilisation"), ("ms_per_layer",)
    )
    _validate_stage("recipe.inject", experiment.recipe.inject)
    _validate_stage("recipe.tune", experiment.recipe.tune)
    _require("recipe.tune", experiment.recipe.tune, ("batch_size",), ("anchor",))
    _validate_generator(experiment.generator, experiment.recipe)


def _validate_modality(experiment: Experiment) -> None:
    dataset, target = experiment.dataset, experiment.target
    one_of("target.modality", target.modality, MODALITIES)
    if dataset.modality != target.modality:
        fitting = {"image": "lenet, cnn, cnn_small", "text": "mlp, rnn"}[dataset.modality]
        raise UserError(
            f"dataset {dataset.name} is {dataset.modality}, target {target.name} classifies {target.modality}; "
            f"use target={fitting.replace(', ', ' or target=')}"
        )
    if dataset.text is not None:
        if not dataset.text.columns:
            raise UserError("dataset.text.columns=[] names no text; give at least one column")
        _require("dataset.text", dataset.text, ("max_tokens", "embedding_dim"))


def _validate_backbone(backbone: BackboneConfig) -> None:
    one_of("backbone.attention", backbone.attention, ("auto", "sdpa", "eager", "flash_attention_2"))
    _require("backbone.lora", backbone.lora, ("rank", "alpha"))
    if not backbone.lora.target_modules:
        raise UserError("backbone.lora.target_modules=[] adapts nothing; name modules, or [all-linear]")
    if backbone.random_seed is None and backbone.model is None:
        raise UserError("backbone.model=null and backbone.random_seed=null leave no weights; give one of them")
    if backbone.random_seed is not None and backbone.architecture is None:
        raise UserError("backbone.random_seed draws weights of backbone.architecture, which is null; describe it")


def _validate_stage(section: str, stage: StageConfig) -> None:
    one_of(f"{section}.optimizer", stage.optimizer, ("adamw", "sgd"))
    one_of(f"{section}.schedule", stage.schedule, ("cosine", "halving"))
    one_of(f"{section}.keep", stage.keep, ("last", "best"))
    if (stage.steps is None) == (stage.epochs is None):
        raise UserError(f"{section} has steps={stage.steps} and epochs={stage.epochs}; set exactly one")
    if not 0 <= stage.beta2 < 1:
        raise UserError(f"{section}.beta2={stage.beta2} must lie between 0 and 1, 1 excluded")
    positive = ("lr", "token_lr_scale", "contexts_per_step", "validate_every", "halve_every", "clip_norm")
    _require(section, stage, positive, ("steps", "epochs", "warmup_steps", "weight_decay"))


def _validate_generator(generator: GeneratorConfig, recipe: RecipeConfig) -> None:
    one_of("generator.order", generator.order, ("context_first", "tokens_first"))
    one_of("generator.projection", generator.projection, ("shared", "per_token", "low_rank"))
    one_of("generator.scale", generator.scale, ("zscore", "fan_in"))
    _require("generator", generator, ("projection_rank",), ("projection_hidden", "context_samples"))
    if generator.soft_clip is not None and generator.soft_clip <= 0:
        raise UserError(f"generator.soft_clip={generator.soft_clip} must be above 0, or null for none")
    if not 0 <= generator.context_warmup <= 1:
        raise UserError(f"generator.context_warmup={generator.context_warmup} must lie between 0 and 1")
    if generator.context_samples > recipe.tune.batch_size:
        raise UserError(
            f"generator.context_samples={generator.context_samples} is more than "
            f"recipe.tune.batch_size={recipe.tune.batch_size}, which the context is a part of"
        )
    if recipe.inject.steps == 0 and recipe.tune.anchor:
        raise UserError(
            "recipe.inject.steps=0 leaves stage 1 out, so there is no zoo to hold on to; set recipe.tune.anchor=0"
        )
    if recipe.inject.steps == 0 and generator.scale == "zscore":
        raise UserError(
            "recipe.inject.steps=0 leaves stage 1 out, and generator.scale=zscore needs its zoo; "
            "add generator.scale=fan_in (and generator.soft_clip=1.0 as in the paper's ablation)"
        )


def _require(section: str, config: Any, positive: tuple[str, ...] = (), not_negative: tuple[str, ...] = ()) -> None:
    for name in positive + not_negative:
        value = getattr(config, name)
        if value is not None and (value < 0 or (value == 0 and name in positive)):
            raise UserError(f"{section}.{name}={value} must be {'above' if name in positive else 'at least'} 0")
