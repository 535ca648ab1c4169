"""The language model F that generates parameters."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from neurogen.config.identity import IF_SET
from neurogen.config.limits import POSITIVE


class Attention(StrEnum):
    """The implementation of attention."""

    auto = "auto"  # sdpa
    sdpa = "sdpa"  # torch's; on a GPU it runs a flash kernel
    eager = "eager"
    flash_attention_2 = "flash_attention_2"  # needs a GPU and the package flash-attn


@dataclass
class LoraConfig:
    """Low-rank adaptation, the only part of the backbone that is trained."""

    rank: int = field(metadata=POSITIVE)
    alpha: int = field(metadata=POSITIVE)
    target_modules: list[str]  # names of the modules to adapt, or all-linear


@dataclass
class PackageConfig:
    """A Python distribution that ships a model as a GGUF file."""

    distribution: str
    model: str  # what it ships; it is looked for only where `backbone.model` asks for this one


@dataclass
class ModelConfig:
    """Which language model; neurogen/generator/pretrained.py looks for its weights."""

    model: str | None  # hub name or local folder
    package: PackageConfig | None  # where `model` may be without a network
    architecture: dict[str, Any] | None  # transformers' config; null: that of `model`
    random_seed: int | None  # random weights of that architecture, for tests and timing; null: those of `model`


@dataclass
class BackboneConfig(ModelConfig):
    """The language model and how it is used."""

    name: str  # part of folders' names
    vision: bool  # whether it reads images itself; if not, they come through a trained patch embedding
    num_layers: int | None = field(metadata=POSITIVE)  # only the first so many; null: all
    chat_template: bool  # whether instruction and context stand in a user's message, if the tokenizer has a template
    attention: Attention
    # Whether random weights are drawn where the model runs. On a GPU that takes seconds for billions of them, and gives
    # others than on a CPU. They are for timing, so this is no part of what a result depends on.
    random_on_device: bool = field(metadata={"identity": False})
    # Draw the weights anew and keep the tokenizer: a backbone of the same shape that knows nothing. null: as they are
    reset_seed: int | None = field(metadata={"identity": IF_SET})
    gradient_checkpointing: bool = field(metadata={"identity": False})  # less memory, twice the time on a GPU
    lora: LoraConfig

    @property
    def source(self) -> ModelConfig:
        """The model alone, without how it is used: all that tokens and embedding depend on."""
        return ModelConfig(**{item.name: getattr(self, item.name) for item in fields(ModelConfig)})
