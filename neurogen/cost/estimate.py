"""What an experiment will cost, before anyone waits in a queue: parameters, memory, FLOPs, hours on one GPU.

in:  an experiment; neither its model nor a GPU, and its data only where the config does not say its size
out: an Estimate of both stages

Left out are the activations of a vision encoder: it is frozen, so autograd keeps none of them, unless LoRA adapts it
too (`backbone.lora.target_modules=[all-linear]`).

A batch of contexts takes the longest of three times: FLOPs / (utilisation · peak); reading all weights twice, in the
forward and the backward pass; and the time that Python needs to start the kernels of all layers. The last two do not
depend on the number of contexts, and with few tokens they are the longest. Only parameter tokens in blocks are read
context by context. Layers that are computed again are read and started once more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from neurogen.config import Experiment, GpuConfig, Keep, Optimizer, StageConfig, TuneConfig
from neurogen.cost.meta import (
    MetaGenerator,
    NetworkCost,
    PassCost,
    meta_backbone,
    meta_generator,
    network_cost,
    pass_cost,
)
from neurogen.cost.reading import num_train_of, shape_of, size_of, tokens_read, vision_flops, vision_layers
from neurogen.generator.backbone import Backbone
from neurogen.generator.generator import Generator
from neurogen.training.loop import steps_of

AGAIN = 1.1  # of the time that starting a pass takes, for computing layers again; measured on an H200: 1.0 to 1.2
VISION_LAYER = 0.5  # of what a layer of the language model takes: it has no LoRA, and is not passed on the way back


@dataclass(frozen=True)
class StageCost:
    """One stage on one GPU."""

    name: str  # inject or tune
    config: StageConfig
    steps: int
    tokens_per_step: int
    flops_per_step: int
    context_bytes: int  # of activations, for one context
    context_seconds: float  # of arithmetic, for one context
    least_seconds: float  # that a batch takes, however small it is
    block_seconds: float  # that the blocks of a context take at least, one after the other
    contexts_at_once: int  # at most, in a batch

    def num_batches(self, contexts: int) -> int:
        """Of so many contexts on one GPU."""
        return math.ceil(contexts / self.contexts_at_once)

    def seconds(self, contexts: int) -> float:
        """Forward and backward passes for so many contexts on one GPU."""
        full, rest = divmod(contexts, self.contexts_at_once)
        sizes = [self.contexts_at_once] * full + [rest] * (rest > 0)
        least = ((size, self.least_seconds + size * self.block_seconds) for size in sizes)
        return sum(max(size * self.context_seconds, seconds) for size, seconds in least)

    def activation_bytes(self, contexts: int) -> int:
        """Of the largest batch of so many contexts on one GPU."""
        return min(contexts, self.contexts_at_once) * self.context_bytes

    @property
    def seconds_per_step(self) -> float:
        """All contexts of a step, on one GPU."""
        return self.seconds(self.config.contexts_per_step)

    @property
    def hours(self) -> float:
        """Of the whole stage."""
        return self.steps * self.seconds_per_step / 3600


@dataclass(frozen=True)
class TrainedParameters:
    """How many parameters are trained, by the part of the generator that they belong to."""

    lora: int
    parameter_tokens: int
    latent_tokens: int
    projection: int
    patch_embedding: int

    @property
    def total(self) -> int:
        """Of all parts."""
        return self.lora + self.parameter_tokens + self.latent_tokens + self.projection + self.patch_embedding


@dataclass(frozen=True)
class Estimate:
    """The costs of both stages on one GPU."""

    published_parameters: int  # with the output layer, which is not used here
    backbone_parameters: int
    trained_parameters: TrainedParameters
    target_parameters: int
    weight_bytes: int
    trained_bytes: int  # values, gradients and the optimiser's state
    inject: StageCost
    tune: StageCost
    adapt: StageCost | None  # stage 2 of a task that is held out; None where none is
    network: NetworkCost  # the target, trained classically; that of stage 1 has its own in `source`
    source: NetworkCost

    @property
    def stages(self) -> tuple[StageCost, StageCost]:
        """Both stages in their order."""
        return self.inject, self.tune

    @property
    def activation_bytes(self) -> int:
        """Of the stage that needs more."""
        return max(stage.activation_bytes(stage.config.contexts_per_step) for stage in self.stages)

    @property
    def peak_bytes(self) -> int:
        """The memory of a GPU at its fullest."""
        return self.weight_bytes + self.trained_bytes + self.activation_bytes


def estimate(experiment: Experiment, dtype: torch.dtype = torch.bfloat16) -> Estimate:
    """The costs of an experiment whose backbone is in `dtype`.

    Raises UserError where neither the config nor the data say what shape the data has.
    """
    e, size = experiment, size_of(experiment.dataset)
    backbone, shape = meta_backbone(e.backbone, dtype), shape_of(experiment.dataset, size)
    source = meta_generator(e, e.source or e.target, backbone, shape)
    target = meta_generator(e, e.target, backbone, shape)
    num_train = num_train_of(e.dataset, size)

    def stage_2(stage: TuneConfig) -> StageCost:
        batch_size = min(stage.batch_size, num_train)
        return _stage_cost("tune", e, stage, math.ceil(num_train / batch_size), target, batch_size)

    trained, frozen = _trained_parameters(target.generator), _frozen(target.generator)
    return Estimate(
        published_parameters=_published_parameters(backbone),
        backbone_parameters=sum(value.numel() for value in frozen),
        trained_parameters=trained,
        target_parameters=target.task.layout.num_parameters,
        weight_bytes=_bytes_of(frozen),
        trained_bytes=trained.total * max(map(bytes_per_trained, (e.recipe.inject, e.recipe.tune))),
        inject=_stage_cost("inject", e, e.recipe.inject, e.zoo.num_networks, source, 0),
        tune=stage_2(e.recipe.tune),
        adapt=stage_2(e.recipe.adapt) if e.held_out else None,
        network=network_cost(target, num_train),
        source=network_cost(source, num_train),
    )


def _stage_cost(
    name: str,
    experiment: Experiment,
    stage: StageConfig,
    steps_per_epoch: int,
    meta: MetaGenerator,
    num_samples: int,
) -> StageCost:
    """The cost of a stage whose loss reads `num_samples` samples per network; none in stage 1.

    Every step counts as one with a context; a step of stage 1 that reads the generic instruction alone costs less.
    """
    gpu, backbone, contexts = experiment.gpu, meta.generator.backbone, stage.contexts_per_step
    recompute = int(experiment.backbone.gradient_checkpointing)
    num_read = tokens_read(experiment, meta.task)
    num_tokens = num_read + meta.generator.num_tokens(meta.task.name)
    cost = pass_cost(meta, num_read, num_samples)
    if recompute:
        cost = _checkpointed(cost, backbone, num_tokens)
    flops = cost.flops + vision_flops(experiment, backbone, meta.task.shape)
    num_passes = 1 if meta.task.most_listed is None else 2  # lists; and the inner layers, which are the same for all
    seeing = VISION_LAYER * vision_layers(backbone) * gpu.ms_per_layer / 1000
    return StageCost(
        name=name,
        config=stage,
        steps=steps_of(stage, steps_per_epoch),
        tokens_per_step=contexts * num_tokens,
        flops_per_step=contexts * flops,
        context_bytes=cost.saved_bytes + cost.target_bytes,
        context_seconds=flops / (gpu.utilisation * gpu.peak_tflops * 1e12),
        least_seconds=num_passes * _pass_seconds(gpu, backbone, recompute) + seeing,
        block_seconds=_num_blocks(meta) * _pass_seconds(gpu, backbone, 1),  # each is computed again by itself
        contexts_at_once=max(1, experiment.batch_tokens // num_tokens),
    )


def _pass_seconds(gpu: GpuConfig, backbone: Backbone, times_again: int) -> float:
    """What the layers take at least, there and back; `times_again`: how often they are computed once more."""
    reading = _bytes_of(_frozen(backbone)) / (gpu.bandwidth_tb_per_s * 1e12)
    starting = _num_layers(backbone) * gpu.ms_per_layer / 1000
    return max((2 + times_again) * reading, (1 + AGAIN * times_again) * starting)


def _num_blocks(meta: MetaGenerator) -> int:
    """That the parameter tokens of a context are read in; 0 where they are read with what stands before them.

    Where a prompt lists classes, those of the rows are never read in blocks.
    """
    size, listed = meta.generator.config.block_tokens, meta.task.most_listed
    inner, *rows = meta.generator.places_of(meta.task.name, listed).groups
    if size is None or inner <= size or (rows and listed is None):
        return 0
    return math.ceil(inner / size)


def bytes_per_trained(stage: StageConfig) -> int:
    """Per trained parameter: a float32 value and gradient, AdamW's two moments, and the best value for keep=best."""
    return (16 if stage.optimizer == Optimizer.adamw else 8) + (4 if stage.keep == Keep.best else 0)


def _checkpointed(cost: PassCost, backbone: Backbone, num_tokens: int) -> PassCost:
    """The cost of a pass that keeps the input of every layer, and computes the layers again one by one.

    That is half as many FLOPs more, because the backward pass through frozen weights costs as much as the forward pass.
    """
    layers, value = _num_layers(backbone), backbone.model.get_input_embeddings().weight.element_size()
    inputs = layers * num_tokens * backbone.hidden_size * value
    return PassCost(cost.flops * 3 // 2, inputs + cost.saved_bytes // layers, cost.target_bytes)


def _trained_parameters(generator: Generator) -> TrainedParameters:
    def count(module: nn.Module | None) -> int:
        return sum(value.numel() for value in module.parameters() if value.requires_grad) if module is not None else 0

    return TrainedParameters(
        lora=count(generator.backbone),
        parameter_tokens=count(generator.parameter_tokens),
        latent_tokens=count(generator.latent_tokens),
        projection=count(generator.projection),
        patch_embedding=count(generator.patches),
    )


def _published_parameters(backbone: Backbone) -> int:
    """Parameters of the model as it is published, with the output layer that is not used here."""
    config = backbone.model.get_base_model().config
    table = backbone.model.get_input_embeddings().weight.numel()
    return sum(value.numel() for value in _frozen(backbone)) + (0 if config.tie_word_embeddings else table)


def _num_layers(backbone: Backbone) -> int:
    return int(backbone.model.get_base_model().config.get_text_config().num_hidden_layers)


def _frozen(module: nn.Module) -> list[nn.Parameter]:
    return [value for value in module.parameters() if not value.requires_grad]


def _bytes_of(values: list[nn.Parameter]) -> int:
    return sum(value.numel() * value.element_size() for value in values)
