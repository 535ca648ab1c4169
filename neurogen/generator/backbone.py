"""The backbone F: a language model with LoRA that reads one sequence and gives hidden states after its last norm.

in:  parts in reading order (parts.py)
out: hidden states [tokens, hidden] of every part

A vision model reads pictures through its own encoder. Their embeddings stand where its vocabulary has image tokens. All
positions, also those of the parameter tokens, are its own multimodal rotary positions (Qwen2-VL).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from neurogen.config import Attention, BackboneConfig
from neurogen.config.schema import written
from neurogen.errors import UserError
from neurogen.generator.parts import Embeddings, Part, Picture, Text, TokenIds
from neurogen.generator.pretrained import Pretrained, load_pretrained
from neurogen.generator.usable import positions_of, require_usable
from neurogen.rng import seed_of
from neurogen.training.runtime import Runtime


class Backbone(nn.Module):
    """A language model, frozen except for its LoRA adapter."""

    def __init__(self, adapted: Any, tokenizer: Any, chat_template: bool) -> None:
        super().__init__()
        self.model, self.tokenizer = adapted, tokenizer
        table = adapted.get_input_embeddings().weight
        self.hidden_size = int(table.shape[1])
        self.embedding_std = float(table.float().std()) if table.device.type != "meta" else 1.0
        self.opening = torch.empty(0, dtype=torch.int64)  # token ids
        if chat_template:
            opening = tokenizer(opening_of(tokenizer), add_special_tokens=False)["input_ids"]
            self.opening = torch.tensor(opening, dtype=torch.int64)
        self.positions = positions_of(adapted.get_base_model().config)  # None: any number
        self.num_tokens_read = 0  # by all calls so far

    @property
    def device(self) -> torch.device:
        """Where the embedding table lies."""
        return self.model.get_input_embeddings().weight.device  # type: ignore[no-any-return]

    def message(self, parts: Sequence[Part]) -> list[Part]:
        """The parts as a user's message in the format of the chat template. It stays open at its end, because the
        parameter tokens are a part of it."""
        message: list[Part] = [TokenIds(self.opening)] if len(self.opening) else []
        for part in parts:
            if isinstance(part, Text) and message and isinstance(message[-1], Text):
                message[-1] = Text(message[-1].text + part.text)  # a token may cross the border between two parts
            else:
                message.append(part)
        return message

    def forward(self, parts: Sequence[Part]) -> list[Float[Tensor, "tokens hidden"]]:
        """Hidden states of every part."""
        embedded = [self.embed(part) for part in parts]
        states = self.decode(torch.cat(embedded), None)
        return list(states.split([len(part) for part in embedded]))

    def embed(self, part: Part) -> Float[Tensor, "tokens hidden"]:
        """EMB_F of the paper for texts and token ids; embeddings are taken as they are."""
        if isinstance(part, Embeddings):
            return part.vectors.to(self.device)
        embedded: Tensor = self.model.get_input_embeddings()(self.ids(part).to(self.device))
        return embedded.float()

    def ids(self, part: Part) -> Int64[Tensor, " tokens"]:
        """Token ids of a text."""
        if isinstance(part, TokenIds):
            return part.ids
        assert isinstance(part, Text)
        return torch.tensor(tokenised([part.text], self.tokenizer)[0], dtype=torch.int64)

    def decode(
        self, sequence: Float[Tensor, "tokens hidden"], positions: Int64[Tensor, "3 1 tokens"] | None
    ) -> Float[Tensor, "tokens hidden"]:
        """One pass through the decoder in its own dtype; float32 in and out.

        Raises UserError where the sequence is longer than the model's positions.
        """
        if self.positions is not None and len(sequence) > self.positions:
            raise UserError(too_long(len(sequence), self.positions))
        self.num_tokens_read += len(sequence)
        dtype = self.model.get_input_embeddings().weight.dtype
        states = self.decoder(inputs_embeds=sequence[None].to(dtype), position_ids=positions, use_cache=False)
        return states.last_hidden_state[0].float()  # type: ignore[no-any-return]

    @property
    def decoder(self) -> Any:
        """The language model proper."""
        return self.model

    @property
    def encoder(self) -> nn.Module | None:
        """What reads pictures."""
        return None


class VisionBackbone(Backbone):
    """A vision language model of Qwen2-VL's kind with LoRA."""

    def __init__(self, adapted: Any, tokenizer: Any, chat_template: bool, image_processor: Any) -> None:
        super().__init__(adapted, tokenizer, chat_template)
        self.image_processor = image_processor
        self.base = adapted.get_base_model()
        config = self.base.config
        self.image_token = int(config.image_token_id)
        self.vision_start, self.vision_end = (
            torch.tensor([token]) for token in (config.vision_start_token_id, config.vision_end_token_id)
        )

    @property
    def decoder(self) -> Any:
        """The language model proper, without the vision encoder."""
        return self.base.language_model

    @property
    def encoder(self) -> nn.Module:
        """What reads pictures."""
        encoder: nn.Module = self.base.visual
        return encoder

    def forward(self, parts: Sequence[Part]) -> list[Float[Tensor, "tokens hidden"]]:
        """Hidden states of every part."""
        features, grids = self.see([part for part in parts if isinstance(part, Picture)])
        remaining = iter(features)
        embedded, ids = [], []
        for part in parts:
            if isinstance(part, Picture):
                feature = next(remaining)
                start, end = (self.embed(TokenIds(token)) for token in (self.vision_start, self.vision_end))
                embedded.append(torch.cat([start, feature, end]))
                images = torch.full((len(feature),), self.image_token)
                ids.append(torch.cat([self.vision_start, images, self.vision_end]))
            else:
                embedded.append(self.embed(part))
                # positions depend only on which tokens are images, so embeddings, which have no ids, count as token 0
                is_embedded = isinstance(part, Embeddings)
                ids.append(torch.zeros(len(embedded[-1]), dtype=torch.int64) if is_embedded else self.ids(part).cpu())
        sequence = torch.cat(ids)[None]
        positions, _ = self.base.get_rope_index(
            sequence, mm_token_type_ids=(sequence == self.image_token).int(), image_grid_thw=grids
        )
        states = self.decode(torch.cat(embedded), positions.to(self.device))
        return list(states.split([len(part) for part in embedded]))

    def see(
        self, pictures: Sequence[Picture]
    ) -> tuple[list[Float[Tensor, "tokens hidden"]], Int64[Tensor, "pictures 3"] | None]:
        """(embeddings; size in time, height and width) of every picture, from the model's processor and encoder."""
        if not pictures:
            return [], None
        colour = [picture.pixels.expand(3, -1, -1).cpu() for picture in pictures]
        prepared = self.image_processor(images=colour, return_tensors="pt")
        grids = prepared["image_grid_thw"]
        output = self.base.get_image_features(prepared["pixel_values"].to(self.device), grids.to(self.device))
        return [feature.float() for feature in output.pooler_output], grids


def too_long(num_tokens: int, positions: int) -> str:
    """What to do about a sequence of so many tokens."""
    return (
        f"the backbone would read {num_tokens:,} tokens, and it has {positions:,} positions; lower "
        "generator.context_samples, dataset.text.max_tokens for texts, the size of the target, or take a backbone "
        "with more positions"
    )


def tokenised(texts: list[str], tokenizer: Any) -> list[list[int]]:
    """Token ids of texts. What looks like a special token in a text is treated as ordinary text."""
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


def opening_of(tokenizer: Any) -> str:
    """What the tokenizer's chat template writes before a user's message; empty where there is no template."""
    if tokenizer.chat_template is None:
        return ""
    marker = "MESSAGE"
    # some templates write today's date, and the generator would give other networks tomorrow
    template = re.sub(r"strftime_now\([^)]*\)", "'1 January 2024'", tokenizer.chat_template)
    message = [{"role": "user", "content": marker}]
    conversation: str = tokenizer.apply_chat_template(message, chat_template=template, tokenize=False)
    return conversation.split(marker)[0]


def load_backbone(config: BackboneConfig, runtime: Runtime, seed: int) -> Backbone:
    """The pretrained model with a fresh LoRA, on the runtime's device.

    Raises UserError when the model cannot be found, or has no vision encoder where the config asks for one.
    """
    require_usable(config)
    # random weights are drawn in one piece: drawn shard by shard they would be others
    sharded = runtime.sharded_loading(runtime.dtype) if config.random_seed is None else nullcontext()
    with sharded:
        pretrained = load_pretrained(config, runtime.dtype, attention_of(config, runtime.device), config.vision)
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
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft asks transformers for an attribute under its old name; checkpointing was renamed late in version 5
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
        warnings.filterwarnings("ignore", message="fan_in_fan_out")  # of GPT-2's layers; peft sets it as it must be
        torch.manual_seed(seed_of(seed, "lora"))
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
    """The attention implementation; `auto` is the fastest one available. Raises UserError for one that is missing."""
    from transformers.utils import is_flash_attn_2_available

    has_flash = device.type == "cuda" and is_flash_attn_2_available()
    if config.attention == Attention.flash_attention_2 and not has_flash:
        raise UserError("backbone.attention=flash_attention_2 needs a GPU and the package flash-attn; use sdpa or auto")
    if config.attention != Attention.auto:
        return config.attention.value
    return (Attention.flash_attention_2 if has_flash else Attention.sdpa).value
