"""How exactly torch computes in a step, in a generator and in a generated network.

in:  whether two runs must give the same bits
out: a context in which torch computes so; after it torch has the settings that it had before

float32 means float32 here. By default torch lets a GPU round the inputs of convolutions and RNNs to 10 bits (TF32); it
does not do so with matrix products.

On a GPU the default algorithms of torch add up in an order that varies from run to run. The deterministic ones do not,
and are slower. An operation that has none ends the step with torch's message. On a CPU both are the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from neurogen.errors import UserError

CUBLAS_KEY, CUBLAS_VALUE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"


@dataclass(frozen=True)
class Numerics:
    """What is asked of torch."""

    deterministic: bool = False
    tf32: bool = False  # torch's default for convolutions and RNNs; only benchmarks want it

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, torch computes so. As a decorator: whenever the function is called."""
        cudnn: Any = torch.backends.cudnn
        kinds = cudnn.conv, cudnn.rnn
        precisions = [kind.fp32_precision for kind in kinds]
        deterministic = torch.are_deterministic_algorithms_enabled()
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        try:
            for kind in kinds:
                kind.fp32_precision = "tf32" if self.tf32 else "ieee"
            if self.deterministic:
                torch.use_deterministic_algorithms(True)  # of cuDNN too
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            for kind, precision in zip(kinds, precisions, strict=True):
                kind.fp32_precision = precision


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
