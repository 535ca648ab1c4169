"""A language model on this machine: a folder of the user's, or a Python package that ships one as a GGUF file.

in:  the config of a model
out: the folder that transformers loads it from

A GGUF file is dequantised once, into a cache.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import SafetensorError

from neurogen.cache import cache_folder
from neurogen.config import ModelConfig
from neurogen.errors import UserError


def local_folder(config: ModelConfig) -> Path | None:
    """The folder with the model, or None where it is not on this machine.

    Raises UserError where the cache cannot be written, or what reads GGUF files is missing.
    """
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
    with _writing(cached):
        cached.parent.mkdir(parents=True, exist_ok=True)
    print(f"  dequantising {gguf.name} into {cached}, once", flush=True)
    return _convert(gguf, cached)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turn failed writes into a UserError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"the cache of language models cannot be written: {target} ({error}); set NEUROGEN_CACHE=FOLDER to a "
            "folder that can"
        ) from error


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
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    with _writing(target), TemporaryDirectory(dir=target.parent) as name:
        work = Path(name) / "model"
        model.save_pretrained(work)
        tokenizer.save_pretrained(work)
        try:
            os.replace(work, target)
        except OSError:
            if not (target / "config.json").exists():  # if it exists, another process has made the same conversion
                raise
    return target
