"""How exactly torch computes in a step, in a generator and in a generated network.

in:  whether two runs must give the same bits
out: a context in which torch computes so; after it torch has the settings that it had before

These settings are those of the whole process. Where threads compute at the same time, those of the newest context that
has not ended count for all, and the end of the last one restores what was there before the first.

float32 means float32 here. By default torch lets a GPU round the inputs of convolutions and RNNs to 10 bits (TF32); it
does not do so with matrix products.

On a GPU the default algorithms of torch add up in an order that varies from run to run. The deterministic ones do not,
and are slower. An operation that has none ends the step with torch's message. On a CPU both are the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import torch

from neurogen.errors import UserError

FILLING: Any = torch.utils.deterministic  # a module, whose setting its stubs do not know
CUBLAS_KEY, CUBLAS_VALUE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"


@dataclass(frozen=True)
class Numerics:
    """What is asked of torch."""

    deterministic: bool = False
    tf32: bool = False  # torch's default for convolutions and RNNs; only benchmarks want it

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, torch computes so. As a decorator: whenever the function is called."""
        with _LOCK:
            if not _CONTEXTS:
                _CONTEXTS.append(_Settings.now())
            settings = self._on_top_of(_CONTEXTS[-1])
            _CONTEXTS.append(settings)
            settings.apply()
        try:
            yield
        finally:
            with _LOCK:
                _CONTEXTS[:] = [context for context in _CONTEXTS if context is not settings]
                _CONTEXTS[-1].apply()
                if len(_CONTEXTS) == 1:
                    _CONTEXTS.clear()

    def _on_top_of(self, outside: _Settings) -> _Settings:
        """Where deterministic algorithms were asked for outside, they are used here too."""
        precisions = ("tf32" if self.tf32 else "ieee",) * len(outside.precisions)
        if self.deterministic:
            return _Settings(precisions, self.tf32, deterministic=True, warn_only=False, fills=False)
        return replace(outside, precisions=precisions, allow_tf32=self.tf32)


@dataclass(frozen=True, eq=False)
class _Settings:
    """Those of torch for the process."""

    precisions: tuple[str, ...]
    allow_tf32: bool | None  # the older flag for the same; None where it contradicts them, and torch does not show it
    deterministic: bool  # of cuDNN too
    warn_only: bool
    fills: bool  # new memory, where algorithms are deterministic; that shows reads of such memory, and takes time

    @staticmethod
    def now() -> _Settings:
        return _Settings(
            tuple(kind.fp32_precision for kind in _kinds()),
            _allows_tf32(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            FILLING.fill_uninitialized_memory,
        )

    def apply(self) -> None:
        if self.allow_tf32 is not None:  # first, since it sets the others
            torch.backends.cudnn.allow_tf32 = self.allow_tf32
        for kind, precision in zip(_kinds(), self.precisions, strict=True):
            kind.fp32_precision = precision
        torch.use_deterministic_algorithms(self.deterministic, warn_only=self.warn_only)
        FILLING.fill_uninitialized_memory = self.fills


def _allows_tf32() -> bool | None:
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:
        return None


def _kinds() -> tuple[Any, ...]:
    """What torch lets round its inputs: convolutions and RNNs."""
    cudnn: Any = torch.backends.cudnn
    return cudnn.conv, cudnn.rnn


_LOCK = Lock()
_CONTEXTS: list[_Settings] = []  # what was there before the first, then all that have not ended


def prepare_cublas() -> None:
    """Give cuBLAS the fixed workspaces without which it is not deterministic. It reads their size once in a process.

    Raises UserError where that is over.
    """
    if CUBLAS_KEY in os.environ:
        return
    if torch.cuda.is_initialized():
        raise UserError(
            "deterministic=true comes too late, this process has used a GPU already; set "
            f"{CUBLAS_KEY}={CUBLAS_VALUE} in the environment before Python starts"
        )
    os.environ[CUBLAS_KEY] = CUBLAS_VALUE
