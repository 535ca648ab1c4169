"""Where a language model comes from.

in:  the config of a model
out: its weights, its tokenizer and, if it sees, its image processor

They are looked for in a local folder, then in an installed package that ships them (packaged.py), then on the Hugging
Face hub (neurogen/downloads), whose files are first brought here and then read like those of any folder. With
`random_seed` nothing is looked for: the weights of `architecture` are drawn at random, and the tokens are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from neurogen.config import ModelConfig
from neurogen.downloads.hub import HubSource
from neurogen.downloads.models import description_of, repository_of, whole_model
from neurogen.errors import UserError, one_line
from neurogen.generator.packaged import local_folder
from neurogen.rng import global_generator

CPU = torch.device("cpu")

# The chat format of Qwen's models, for tokenizers of bytes.
CHAT_TEMPLATE = """\
{% for message in messages %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}\
{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}\
{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


@dataclass(frozen=True)
class Pretrained:
    """A model without its output layer, as transformers' AutoModel loads it, and what prepares its input."""

    model: Any
    tokenizer: Any
    image_processor: Any  # None unless the model is to see


def load_pretrained(
    config: ModelConfig,
    dtype: torch.dtype | str,
    attention: str = "sdpa",
    vision: bool = False,
    drawn_on: torch.device = CPU,
) -> Pretrained:
    """The model in `dtype` ("auto": as it is stored), with one of transformers' implementations of attention.

    Random weights are drawn on the device `drawn_on`, and stay there.

    Raises UserError where the weights cannot be found, are broken, or need access that is not granted.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    if config.random_seed is not None:
        return _random(config, dtype, attention, vision, drawn_on)
    return _published(config, dtype, attention, vision)


def load_tokenizer(config: ModelConfig, local_files_only: bool = False) -> Any:
    """The tokenizer of the model. Raises UserError where it cannot be found."""
    from transformers import AutoTokenizer

    if config.random_seed is not None:
        return byte_tokenizer(architecture_of(config))
    folder = described_in(config, download=not local_files_only)
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder} holds no tokenizer that transformers can load ({_first_sentence(error)}); put "
            "tokenizer.json and tokenizer_config.json of the same model there: tokenizer.save_pretrained(FOLDER)"
        ) from error


def described_in(config: ModelConfig, download: bool = True) -> Path:
    """The folder with the model's config and tokenizer. Raises UserError where they cannot be had."""
    repository = repository_of(config)
    if repository is None:
        folder = local_folder(config)
        assert folder is not None  # random weights have no description
        return folder
    return HubSource(description_of(config, repository)).folder(download)


def architecture_of(config: ModelConfig) -> Any:
    """transformers' config of the model: `architecture` if it is given, else the config beside the weights.

    Raises UserError where neither can be had.
    """
    from transformers import AutoConfig

    if config.architecture is None:
        return published_architecture(config)
    options = dict(config.architecture)
    return AutoConfig.for_model(options.pop("model_type"), **options)


def published_architecture(config: ModelConfig) -> Any:
    """transformers' config beside the weights of the model. Raises UserError where it cannot be had."""
    from transformers import AutoConfig

    folder = described_in(config)
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder} holds no model that transformers can load ({_first_sentence(error)}); give the folder that "
            "model.save_pretrained(FOLDER) has written"
        ) from error


def _published(config: ModelConfig, dtype: torch.dtype | str, attention: str, vision: bool) -> Pretrained:
    from transformers import AutoImageProcessor, AutoModel

    repository = repository_of(config)
    folder = local_folder(config) if repository is None else HubSource(whole_model(config, repository)).folder()
    try:
        # neither code beside the weights is run, nor weights are read that may hold code
        safely = {"trust_remote_code": False, "use_safetensors": True}
        model = AutoModel.from_pretrained(folder, dtype=dtype, attn_implementation=attention, **safely)
        processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False) if vision else None
    except SafetensorError as error:
        raise UserError(f"the weights of the backbone in {folder} are broken ({error}); delete that folder") from error
    except (OSError, ValueError, ImportError) as error:
        raise UserError(
            f"{folder} holds no backbone that transformers can load ({_first_sentence(error)}); give the folder that "
            "model.save_pretrained(FOLDER) has written"
        ) from error
    return Pretrained(model, load_tokenizer(config), processor)


def _first_sentence(error: BaseException) -> str:
    return one_line(error).split(". ")[0]


def _random(
    config: ModelConfig, dtype: torch.dtype | str, attention: str, vision: bool, drawn_on: torch.device
) -> Pretrained:
    from transformers import AutoModel, Qwen2VLImageProcessor

    architecture = architecture_of(config)
    with global_generator(config.random_seed or 0, [drawn_on] if drawn_on.type == "cuda" else []), drawn_on:
        dtype = torch.float32 if dtype == "auto" else dtype
        model = AutoModel.from_config(architecture, dtype=dtype, attn_implementation=attention).eval()
    return Pretrained(model, byte_tokenizer(architecture), Qwen2VLImageProcessor() if vision else None)


def with_random_weights(pretrained: Pretrained, seed: int, dtype: torch.dtype | str, attention: str) -> Pretrained:
    """A model of the same shape that has learned nothing, with the same tokenizer."""
    from transformers import AutoModel

    with global_generator(seed):
        model = AutoModel.from_config(pretrained.model.config, dtype=dtype, attn_implementation=attention).eval()
    return replace(pretrained, model=model)


def byte_tokenizer(architecture: Any) -> Any:
    """A tokenizer whose tokens are bytes, besides the marks of conversations and images."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    marks = ["<|im_start|>", "<|im_end|>"]
    ids = {token: index for index, token in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), *marks])}
    for mark, name in (
        ("<|vision_start|>", "vision_start"),
        ("<|vision_end|>", "vision_end"),
        ("<|image_pad|>", "image"),
    ):
        if hasattr(architecture, f"{name}_token_id"):
            ids[mark] = getattr(architecture, f"{name}_token_id")
            marks.append(mark)
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(marks)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=CHAT_TEMPLATE)
