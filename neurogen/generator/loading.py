"""A pretrained language model becomes a backbone: its kernel of attention, its first layers, its LoRA.

in:  the config of a backbone, a seed for what is drawn
out: a Backbone on the runtime's device, under ZeRO stage 3 loaded in shards
"""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from neurogen.config import Attention, BackboneConfig
from neurogen.config.schema import written
from neurogen.errors import UserError
from neurogen.generator.backbone import Backbone, VisionBackbone
from neurogen.generator.pretrained import Pretrained, load_pretrained, with_random_weights
from neurogen.generator.usable import require_usable
from neurogen.rng import global_generator, seed_of
from neurogen.training.runtime import Runtime


def load_backbone(config: BackboneConfig, runtime: Runtime, seed: int) -> Backbone:
    """The pretrained model with a fresh LoRA, on the runtime's device.

    Raises UserError when the model cannot be found, or has no vision encoder where the config asks for one.
    """
    require_usable(config)
    # random weights are drawn in one piece: drawn shard by shard they would be others
    is_random = config.random_seed is not None or config.reset_seed is not None
    sharded = nullcontext() if is_random else runtime.sharded_loading(runtime.dtype)
    drawn_on = runtime.device if config.random_on_device else torch.device("cpu")
    attention = attention_of(config, runtime.device)
    with sharded:
        pretrained = load_pretrained(config, runtime.dtype, attention, config.vision, drawn_on)
        if config.reset_seed is not None:
            pretrained = with_random_weights(pretrained, config.reset_seed, runtime.dtype, attention)
    with runtime.gathered([pretrained.model.get_input_embeddings().weight]):
        backbone = with_lora(pretrained, config, seed)
    return backbone.to(runtime.device)


def with_lora(pretrained: Pretrained, config: BackboneConfig, seed: int) -> Backbone:
    """The backbone with a LoRA adapter drawn from `seed`. Raises UserError for modules that the model lacks."""
    from peft import LoraConfig, get_peft_model

    modules = list(config.lora.target_modules)
    lora = LoraConfig(
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,
        target_modules="all-linear" if modules == ["all-linear"] else modules,
    )
    if config.num_layers is not None:
        _keep_layers(pretrained.model, config.num_layers)
    with global_generator(seed_of(seed, "lora")), warnings.catch_warnings():
        # peft asks transformers for an attribute under its old name; checkpointing was renamed late in version 5
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
        warnings.filterwarnings("ignore", message="fan_in_fan_out")  # of GPT-2's layers; peft sets it as it must be
        try:
            adapted = get_peft_model(pretrained.model, lora)
        except ValueError as error:
            raise UserError(
                f"backbone.lora.target_modules={written(modules)}: {error}; name others, or [all-linear]"
            ) from error
        if config.gradient_checkpointing:
            _checkpoint_layers(adapted)
    adapted.peft_config["default"].base_model_name_or_path = config.model  # not the folder it was loaded from here
    if pretrained.image_processor is None:
        return Backbone(adapted, pretrained.tokenizer, config.chat_template)
    return VisionBackbone(adapted, pretrained.tokenizer, config.chat_template, pretrained.image_processor)


def _keep_layers(model: Any, count: int) -> None:
    """Keep the first layers of the language model, and its last norm."""
    decoder = getattr(model, "language_model", model)
    if not isinstance(getattr(decoder, "layers", None), nn.ModuleList):
        raise UserError(
            f"backbone.num_layers={count}: a {type(model).__name__} keeps its layers elsewhere; set it to null"
        )
    if count > len(decoder.layers):
        raise UserError(
            f"backbone.num_layers={count} is more than the {len(decoder.layers)} layers of this model; lower it"
        )
    decoder.layers = decoder.layers[:count]
    decoder.config.num_hidden_layers = count


def _checkpoint_layers(model: Any) -> None:
    """Keep no activations inside the layers; the backward pass computes them again."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = True  # transformers checkpoints in this mode only; inner modules stay without dropout


def attention_of(config: BackboneConfig, device: torch.device) -> str:
    """The implementation of attention. Raises UserError for one that is missing.

    `auto` is sdpa also on a GPU, where torch chooses among its own kernels and cuDNN's. The package flash-attn makes
    the CPU wait for the GPU in every layer of a batch of one sequence.
    """
    from transformers.utils import is_flash_attn_2_available

    if config.attention == Attention.auto:
        return Attention.sdpa.value
    has_flash = device.type == "cuda" and is_flash_attn_2_available()
    if config.attention == Attention.flash_attention_2 and not has_flash:
        raise UserError("backbone.attention=flash_attention_2 needs a GPU and the package flash-attn; use sdpa or auto")
    return config.attention.value
