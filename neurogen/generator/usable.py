"""Whether a model can be the backbone.

in:  its config, its tokenizer and the headers of its weights: all that can be had in a second
out: nothing, or a UserError

An experiment asks this before it trains a zoo for such a backbone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from neurogen.config import BackboneConfig
from neurogen.downloads.models import INDEX, SHARD, WEIGHTS, weights
from neurogen.errors import UserError, one_line
from neurogen.generator.packaged import local_folder
from neurogen.generator.pretrained import architecture_of, load_tokenizer, published_architecture
from neurogen.generator.prompts import GENERIC


def require_usable(config: BackboneConfig) -> None:
    """Raises UserError where the model cannot be had, is broken, is no decoder, or cannot see though it must."""
    if config.random_seed is not None:
        require_fitting(config, architecture_of(config))
        return
    architecture = published_architecture(config)
    require_fitting(config, architecture)
    folder = local_folder(config)
    if folder is not None:
        require_weights(folder)
    require_tokenizer(config, architecture)


def require_fitting(config: BackboneConfig, architecture: Any) -> None:
    """Raises UserError where the model is no decoder, or backbone.vision=true and it cannot see as Qwen2-VL does."""
    kind = kind_of(architecture)
    if kind != "decoder":
        raise UserError(
            f"backbone {config.model or config.name} ({architecture.model_type}) is {kind}; a generator needs a "
            "decoder, which reads from left to right: take a causal language model such as Llama, Qwen2, GPT-2 or "
            "SmolLM2 (backbone=smollm2_135m)"
        )
    require_sight(config, architecture)


def kind_of(architecture: Any) -> str:
    """What a model of transformers is: "decoder", or words for what else it is."""
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        MODEL_FOR_MASKED_LM_MAPPING,
    )

    text = architecture.get_text_config()
    if architecture.is_encoder_decoder or text.is_encoder_decoder:
        return "an encoder-decoder"
    looks_ahead = getattr(text, "use_bidirectional_attention", False) in (True, "all")  # embedding models of Gemma
    looks_ahead |= getattr(text, "attn_type", None) == "bi"  # XLNet
    # BERT and its like have a causal form too, which their config has to ask for
    is_masked = any(type(part) in MODEL_FOR_MASKED_LM_MAPPING for part in (architecture, text))
    if looks_ahead or (is_masked and not getattr(text, "is_decoder", False)):
        return "an encoder"
    generative = (MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING)
    is_generative = any(type(part) in mapping for part in (architecture, text) for mapping in generative)
    return "decoder" if is_generative else "no language model"


def require_sight(config: BackboneConfig, architecture: Any) -> None:
    """Raises UserError where backbone.vision=true and the model cannot see as Qwen2-VL does."""
    marks = ("vision_config", "image_token_id", "vision_start_token_id", "vision_end_token_id")
    if config.vision and not all(hasattr(architecture, mark) for mark in marks):
        obstacle = "sees in another way than Qwen2-VL" if hasattr(architecture, marks[0]) else "reads text only"
        raise UserError(
            f"backbone.vision=true, but {config.model or config.name} ({architecture.model_type}) {obstacle}; set "
            "backbone.vision=false, and images come through a trained patch embedding, or take a backbone of "
            "Qwen2-VL's kind: qwen2_vl_7b, tiny_qwen2_vl"
        )


def require_weights(folder: Path) -> None:
    """Raises UserError where weights are missing in a local folder, or their safetensors files are broken."""
    index, names = folder / f"{WEIGHTS}{INDEX}", {WEIGHTS}
    if index.exists():
        names = _shards_in(index)
    else:
        try:
            weights([path.name for path in folder.iterdir()])
        except UserError as error:
            raise UserError(f"the backbone in {folder} cannot be read: {error}") from error
    for name in sorted(names):
        _require_whole(folder / name)


def _shards_in(index: Path) -> set[str]:
    """The names of the files that hold the weights. Raises UserError where these are none, or lie elsewhere."""
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        strange = sorted(name for name in names if not SHARD.fullmatch(name))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{index} is no list of weights ({one_line(error)}); copy it again") from error
    if strange:
        raise UserError(f"{index} names {strange[0]!r}, which is no part of a model in its folder; copy it again")
    return names


def _require_whole(path: Path) -> None:
    """A safetensors file says how long it must be."""
    try:
        with safe_open(path, framework="pt"):
            return
    except (OSError, SafetensorError) as error:
        raise UserError(f"the backbone's weights in {path} are missing or broken ({error}); copy them again") from error


def require_tokenizer(config: BackboneConfig, architecture: Any) -> None:
    """Raises UserError where the tokenizer is missing, is empty, or is that of another model."""
    tokenizer = load_tokenizer(config)
    if not tokenizer(GENERIC, add_special_tokens=False)["input_ids"]:
        # transformers makes an empty one where a folder has no tokenizer's files
        raise UserError(
            f"backbone {config.model} has no tokenizer: put tokenizer.json and tokenizer_config.json of the same model "
            "beside its config.json (tokenizer.save_pretrained(FOLDER) writes them)"
        )
    num_embedded = architecture.get_text_config().vocab_size
    if tokenizer.vocab_size > num_embedded:
        raise UserError(
            f"the tokenizer of backbone {config.model} has {tokenizer.vocab_size:,} tokens and its model embeds "
            f"{num_embedded:,}; they belong to different models: put the tokenizer of this model there"
        )


def positions_of(architecture: Any) -> int | None:
    """How many tokens the model was made to read; None where it has no limit."""
    text = architecture.get_text_config()
    limit = getattr(text, "max_position_embeddings", None) or 0  # transformers' name for n_positions as well
    if getattr(text, "alibi", False) or limit <= 0:
        return None
    rope = getattr(text, "rope_parameters", None) or {}
    stretched = rope.get("factor", 1) * rope.get("original_max_position_embeddings", 0)
    return int(max(limit, stretched))
