"""The rules that join several keys.

in:  an experiment, whose keys are right one by one
out: nothing, or a UserError

Rules for one part of the method have a module of their own: blocks.py, latent.py, named.py, places.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurogen.config.backbone import BackboneConfig
from neurogen.config.blocks import check_blocks
from neurogen.config.experiment import Experiment, StepKind, StopAfter, TaskSharing
from neurogen.config.generator import GeneratorConfig, ProjectionKind, ScaleKind, TokenOrder
from neurogen.config.latent import check_latent
from neurogen.config.named import check_few_shot, check_named
from neurogen.config.places import check_names, check_places
from neurogen.config.schema import unknown_value, written
from neurogen.config.stages import StageConfig
from neurogen.config.task import Modality
from neurogen.errors import UserError


def validate(experiment: Experiment) -> None:
    """Refuse what cannot work. Raises UserError."""
    check_names(experiment)
    check_places(experiment)
    if experiment.only == []:
        raise UserError(f"only=[] runs nothing; name steps ({', '.join(StepKind)}), or leave it out")
    if experiment.stop_after == StopAfter.fetch and not experiment.fetch:
        raise UserError("fetch=false leaves out what `neurogen fetch` does; leave out one of them")
    if experiment.part >= experiment.num_parts:
        raise UserError(f"part={experiment.part} must be below num_parts={experiment.num_parts}")
    check_kinds(experiment.cluster)
    check_modality(experiment)
    check_backbone(experiment.backbone)
    check_stage("recipe.inject", experiment.recipe.inject)
    check_stage("recipe.tune", experiment.recipe.tune)
    check_stage("recipe.adapt", experiment.recipe.adapt)
    check_contexts(experiment.generator, experiment.recipe.tune.batch_size)
    check_blocks(experiment)
    check_latent(experiment)
    check_without_stage_1(experiment)
    check_source(experiment)
    check_tasks(experiment)
    check_named(experiment)
    check_few_shot(experiment)
    check_labels(experiment)


def check_kinds(cluster: Mapping[str, Any]) -> None:
    """Resources are given to kinds of steps that there are."""
    allowed, steps = ["default", "check", *StepKind], cluster.get("steps")
    for kind in steps if isinstance(steps, Mapping) else ():  # for what is none, cluster_from has a line
        if kind not in allowed:
            raise UserError(unknown_value(f"cluster.steps.{kind}", kind, allowed))


def check_modality(e: Experiment) -> None:
    """Data and target must fit, a text needs columns, and only Reuters' news have topics."""
    dataset, target = e.dataset, e.target
    if dataset.topics is not None and dataset.load != "reuters":
        raise UserError(
            f"dataset.topics={dataset.topics} chooses among the documents of dataset=reuters, and dataset is "
            f"{dataset.name}; leave it out"
        )
    if dataset.modality != target.modality:
        fitting = {Modality.image: ("lenet", "cnn", "cnn_small"), Modality.text: ("mlp", "rnn")}[dataset.modality]
        raise UserError(
            f"dataset {dataset.name} is {dataset.modality}, target {target.name} classifies {target.modality}; "
            f"use target={' or target='.join(fitting)}"
        )
    if dataset.text is not None and not dataset.text.columns:
        raise UserError("dataset.text.columns=[] names no text; give at least one column")


def check_backbone(backbone: BackboneConfig) -> None:
    """There must be weights, and something to adapt."""
    if not backbone.lora.target_modules:
        raise UserError("backbone.lora.target_modules=[] adapts nothing; name modules, or [all-linear]")
    if backbone.random_seed is None and backbone.model is None:
        raise UserError("backbone.model=null and backbone.random_seed=null leave no weights; give one of them")
    if backbone.random_seed is not None and backbone.architecture is None:
        raise UserError("backbone.random_seed draws weights of backbone.architecture, which is null; describe it")


def check_stage(key: str, stage: StageConfig) -> None:
    """The length of a stage is given once."""
    if (stage.steps is None) == (stage.epochs is None):
        raise UserError(f"{key} has steps={written(stage.steps)} and epochs={written(stage.epochs)}; set exactly one")


def require_shares(stage_name: str, stage: StageConfig, num_ranks: int) -> None:
    """Raises UserError where ranks cannot share the contexts of a step equally: the global batch is the recipe's."""
    if stage.contexts_per_step % num_ranks:
        raise UserError(
            f"recipe.{stage_name}.contexts_per_step={stage.contexts_per_step} cannot be shared by {num_ranks} ranks; "
            f"set it to a multiple of {num_ranks}, or start fewer (nodes × tasks_per_node)"
        )


def check_contexts(generator: GeneratorConfig, batch_size: int) -> None:
    """Every context must say something, and instruction and data must be able to contradict each other."""
    fractions = {key: getattr(generator, key) for key in ("drop_instruction", "drop_data", "foreign_data")}
    if sum(fractions.values()) > 1:
        given = ", ".join(f"generator.{key}={fraction}" for key, fraction in fractions.items())
        raise UserError(f"{given} are fractions of the contexts, together at most 1")
    if generator.foreign_data and (not generator.context_samples or generator.order == TokenOrder.tokens_first):
        raise UserError(
            f"generator.foreign_data={generator.foreign_data} needs tokens that read both instruction and data; set "
            "generator.order=context_first and generator.context_samples=4"
        )
    if generator.drop_instruction and not generator.context_samples:
        raise UserError(
            "generator.drop_instruction leaves nothing to read where generator.context_samples=0; set one of them"
        )
    if generator.context_samples > batch_size:
        raise UserError(
            f"generator.context_samples={generator.context_samples} is more than recipe.tune.batch_size={batch_size}, "
            "which the context is a part of; lower the former, or raise the latter"
        )


def check_without_stage_1(e: Experiment) -> None:
    """Stage 2 alone has no zoo."""
    if not e.recipe.inject.is_left_out:
        return
    given = f"recipe.inject.{e.recipe.inject.length[0]}=0 leaves stage 1 out"
    if e.recipe.tune.anchor:
        raise UserError(f"{given}, so there is no zoo to hold on to; set recipe.tune.anchor=0")
    if e.generator.scale == ScaleKind.zscore:
        raise UserError(
            f"{given}, and generator.scale=zscore needs its zoo; add generator.scale=fan_in "
            "(and generator.soft_clip=1.0 as in the paper's ablation)"
        )


def check_source(e: Experiment) -> None:
    """Stage 1 with another target than stage 2 (paper 4.4)."""
    if e.source is None:
        return
    given = f"target@source={e.source.name}"
    if e.source.modality != e.target.modality:
        raise UserError(
            f"{given} classifies {e.source.modality}, and target {e.target.name} {e.target.modality}; use two targets "
            "for the same kind of data"
        )
    if e.recipe.inject.is_left_out:
        length, _ = e.recipe.inject.length
        raise UserError(
            f"{given} is the target of stage 1, which recipe.inject.{length}=0 leaves out; drop one of them"
        )
    if e.recipe.tune.anchor:
        raise UserError(f"{given} has a zoo of other networks, to which stage 2 cannot hold; set recipe.tune.anchor=0")
    if e.generator.projection != ProjectionKind.shared:
        raise UserError(f"{given} needs a projection that serves two targets; set generator.projection=shared")
    if e.tasks == TaskSharing.together:
        raise UserError(f"{given} is for a generator of one task; set tasks=alone")


def check_tasks(e: Experiment) -> None:
    """Several tasks of one generator, and tasks that it does not learn."""
    if e.held_out and e.tasks == TaskSharing.alone:
        raise UserError(f"held_out={written(e.held_out)} keeps tasks from a generator of several; set tasks=together")
    if e.generator.foreign_data and e.tasks == TaskSharing.alone:
        given = f"generator.foreign_data={e.generator.foreign_data}"
        raise UserError(f"{given} is data of a generator's other tasks; set tasks=together")
    if e.held_out and e.generator.projection != ProjectionKind.shared:
        raise UserError("held_out needs a projection that serves new targets; set generator.projection=shared")
    if e.recipe.adapt.anchor:
        raise UserError("recipe.adapt.anchor holds on to a zoo that the generator must not know; set it to 0")


def check_labels(e: Experiment) -> None:
    """Labels that only the context reveals: every context must have data, and tokens must read them."""
    if e.dataset.relabel is None:
        if e.dataset.unseen:
            raise UserError(
                f"dataset.unseen={written(e.dataset.unseen)}: only a context can say what such a class is called; set "
                "dataset.relabel=random generator.order=interleaved"
            )
        return
    given = f"dataset.relabel={e.dataset.relabel}"
    if e.generator.order == TokenOrder.tokens_first or e.generator.drop_data or e.generator.foreign_data:
        raise UserError(
            f"{given} is revealed by the context alone; set generator.order=interleaved generator.drop_data=0 "
            "generator.foreign_data=0"
        )
    if not e.recipe.inject.is_left_out and e.generator.context_warmup < 1:
        raise UserError(
            f"{given} is revealed by the context, and only {e.generator.context_warmup:.0%} of stage 1 has one; set "
            "generator.context_warmup=1"
        )
