"""What Hydra composed goes in, a validated `Experiment` comes out.

What cannot work is refused here, before anything is trained or queued, with what was given, what is allowed and what
to do.

Like config.py it imports no torch.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast, get_type_hints

from neurogen.config import BackboneConfig, Experiment, GeneratorConfig, RecipeConfig, StageConfig, TargetConfig
from neurogen.errors import UserError, one_of

KINDS = ("embed", "reference", "classical", "inject", "tune", "evaluate", "sweeps")
MODALITIES = ("image", "text")
ZOO_INITS = ("shared", "independent")

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


# Built-in functions have short names, so that the identity of a result does not depend on the module they live in.
BUILT_INS = {
    "dataset.load": {
        **dict.fromkeys(("digits", "mnist5k", "mnist", "svhn", "cifar10", "image_folder"), "neurogen.data.images"),
        "arrays": "neurogen.data.arrays",
        **dict.fromkeys(("rotten_tomatoes", "hub_text", "text_table"), "neurogen.data.texts"),
    },
    "target.build": dict.fromkeys(("lenet", "cnn", "mlp", "rnn"), "neurogen.targets.networks"),
}


def named_function(key: str, name: str) -> Callable[..., Any]:
    """The function that the config names: a built-in by its short name, any other as package.module.function.

    Raises UserError when there is none.
    """
    module, _, function = name.rpartition(".")
    try:
        imported = importlib.import_module(module or BUILT_INS[key][name])
        named: Callable[..., Any] = getattr(imported, function)
    except KeyError as error:
        allowed = ", ".join(BUILT_INS[key])
        raise UserError(f"{key}={name} is unknown; allowed: {allowed}, or your own as module.function") from error
    except (ImportError, AttributeError) as error:
        raise UserError(f"{key}={name} is no importable function ({error})") from error
    return named


def validate(experiment: Experiment) -> None:
    """Refuse what cannot work, before anything is trained or queued. Raises UserError."""
    for section in ("dataset.", "target.", "source.", "backbone.", "recipe.", ""):
        part = getattr(experiment, section[:-1]) if section else experiment
        name = part.name if part is not None else "none"
        if not re.fullmatch(r"[\w-]+", name):
            raise UserError(f"{section}name={name} becomes part of a folder's name; use letters, digits, _ and -")
    if experiment.study_name is not None and not re.fullmatch(r"[\w-]+", experiment.study_name):
        raise UserError(
            f"study_name={experiment.study_name} becomes part of a folder's name; use letters, digits, _ and -"
        )
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
    _require("evaluate", experiment.evaluate, ("num_contexts", "num_in_ensemble"))
    _require("experiment", experiment, ("checkpoint_every",), ("num_threads",))
    _require(
        "gpu",
        experiment.gpu,
        ("memory_gb", "peak_tflops", "bandwidth_tb_per_s", "link_gb_per_s", "network_gb_per_s", "utilisation"),
        ("ms_per_layer",),
    )
    _validate_stage("recipe.inject", experiment.recipe.inject)
    _validate_stage("recipe.tune", experiment.recipe.tune)
    _require("recipe.tune", experiment.recipe.tune, ("batch_size",), ("anchor",))
    _validate_stage("recipe.adapt", experiment.recipe.adapt)
    _require("recipe.adapt", experiment.recipe.adapt, ("batch_size",), ("anchor",))
    _validate_generator(experiment.generator, experiment.recipe)
    _validate_tasks(experiment)


def require_shares(stage_name: str, stage: StageConfig, num_ranks: int) -> None:
    """Raises UserError where ranks cannot share the contexts of a step equally: the global batch is the recipe's."""
    if stage.contexts_per_step % num_ranks:
        raise UserError(
            f"recipe.{stage_name}.contexts_per_step={stage.contexts_per_step} cannot be shared by {num_ranks} ranks; "
            f"set it to a multiple of {num_ranks}, or start fewer (nodes × tasks_per_node)"
        )


def _validate_modality(experiment: Experiment) -> None:
    dataset, target = experiment.dataset, experiment.target
    one_of("target.modality", target.modality, MODALITIES)
    if dataset.modality != target.modality:
        fitting = {"image": "lenet, cnn, cnn_small", "text": "mlp, rnn"}[dataset.modality]
        raise UserError(
            f"dataset {dataset.name} is {dataset.modality}, target {target.name} classifies {target.modality}; "
            f"use target={fitting.replace(', ', ' or target=')}"
        )
    if experiment.source is not None:
        _validate_source(experiment, experiment.source)
    if dataset.text is not None:
        if not dataset.text.columns:
            raise UserError("dataset.text.columns=[] names no text; give at least one column")
        _require("dataset.text", dataset.text, ("max_tokens", "embedding_dim"))


def _validate_source(experiment: Experiment, source: TargetConfig) -> None:
    """Stage 1 for another target than stage 2 (paper 4.4)."""
    given = f"target@source={source.name}"
    if source.modality != experiment.target.modality:
        raise UserError(f"{given} classifies {source.modality}, target {experiment.target.name} does not")
    if experiment.recipe.inject.steps == 0:
        raise UserError(f"{given} is the target of stage 1, which recipe.inject.steps=0 leaves out")
    if experiment.recipe.tune.anchor:
        raise UserError(f"{given} has a zoo of other networks, to which stage 2 cannot hold; set recipe.tune.anchor=0")
    if experiment.generator.projection != "shared":
        raise UserError(f"{given} needs a projection that serves two targets; set generator.projection=shared")


def _validate_tasks(experiment: Experiment) -> None:
    """Several tasks of one generator, and tasks whose labels only the context reveals."""
    e = experiment
    one_of("tasks", e.tasks, ("alone", "together"))
    if e.held_out and e.tasks == "alone":
        raise UserError(f"held_out={e.held_out} keeps tasks from a generator of several; set tasks=together")
    if e.generator.foreign_data and e.tasks == "alone":
        raise UserError(
            f"generator.foreign_data={e.generator.foreign_data} is data of a generator's other tasks; "
            "set tasks=together"
        )
    if e.tasks == "together" and e.source is not None:
        raise UserError(f"target@source={e.source.name} is for a generator of one task; set tasks=alone")
    if e.held_out and e.generator.projection != "shared":
        raise UserError("held_out needs a projection that serves new targets; set generator.projection=shared")
    if e.recipe.adapt.anchor:
        raise UserError("recipe.adapt.anchor holds on to a zoo that the generator must not know; set it to 0")
    if e.dataset.unseen and e.dataset.relabel is None:
        raise UserError(
            f"dataset.unseen={e.dataset.unseen}: only a context can say what such a class is called; set "
            "dataset.relabel=random generator.order=interleaved"
        )
    if e.dataset.relabel is not None:
        one_of("dataset.relabel", e.dataset.relabel, ("random",))
        if e.generator.order == "tokens_first" or e.generator.drop_data or e.generator.foreign_data:
            raise UserError(
                "dataset.relabel=random is revealed by the context alone; set generator.order=interleaved "
                "generator.drop_data=0 generator.foreign_data=0"
            )
        if e.recipe.inject.steps != 0 and e.generator.context_warmup < 1:
            raise UserError(
                f"dataset.relabel=random is revealed by the context, and {e.generator.context_warmup:.0%} of stage 1 "
                "has one; set generator.context_warmup=1"
            )


def _validate_backbone(backbone: BackboneConfig) -> None:
    one_of("backbone.attention", backbone.attention, ("auto", "sdpa", "eager", "flash_attention_2"))
    _require("backbone", backbone, ("num_layers",))
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
    one_of("generator.order", generator.order, ("context_first", "tokens_first", "interleaved"))
    one_of("generator.tokens", generator.tokens, ("free", "composed"))
    one_of("generator.projection", generator.projection, ("shared", "per_token", "low_rank"))
    one_of("generator.scale", generator.scale, ("zscore", "fan_in"))
    _require("generator", generator, ("projection_rank",), ("projection_hidden", "context_samples"))
    if generator.soft_clip is not None and generator.soft_clip <= 0:
        raise UserError(f"generator.soft_clip={generator.soft_clip} must be above 0, or null for none")
    if not 0 <= generator.context_warmup <= 1:
        raise UserError(f"generator.context_warmup={generator.context_warmup} must lie between 0 and 1")
    parts = {name: getattr(generator, name) for name in ("drop_instruction", "drop_data", "foreign_data")}
    if min(parts.values()) < 0 or sum(parts.values()) > 1:
        given = ", ".join(f"generator.{name}={part}" for name, part in parts.items())
        raise UserError(f"{given} are fractions of the steps, each at least 0 and together at most 1")
    if generator.foreign_data and (not generator.context_samples or generator.order == "tokens_first"):
        raise UserError(
            "generator.foreign_data contradicts the instruction before tokens that read both; set "
            "generator.order=context_first and generator.context_samples=4"
        )
    if generator.drop_instruction and not generator.context_samples:
        raise UserError("generator.drop_instruction leaves nothing to read where generator.context_samples=0")
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
