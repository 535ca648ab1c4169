"""How several ranks share a step: conf/zero/*.yaml as a dataclass.

stage 1   the optimiser's state is shared out            stage 2   and the gradients
stage 3   and all parameters, those of the frozen backbone too; offload keeps them in the host's memory
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from hpc.errors import ClusterError

STAGES = (0, 1, 2, 3)


@dataclass(frozen=True)
class Zero:
    """One of conf/zero."""

    stage: int  # 0: no DeepSpeed, one process
    offload: bool  # stage 3: parameters and the optimiser's state lie in the host's memory
    whole_below: int  # stage 3: parameters of at most so many numbers are not shared out
    rank_timeout_s: float  # how long a rank may stand still before all end


def alone(zero: Zero) -> Zero:
    """For the work of one process."""
    return replace(zero, stage=0, offload=False)


def zero_from(values: Mapping[str, Any]) -> Zero:
    """Plain values → Zero. Raises ClusterError on unknown, missing and impossible ones."""
    allowed = {item.name for item in fields(Zero)}
    if set(values) != allowed:
        names = ", ".join(sorted(set(values) ^ allowed))
        raise ClusterError(f"zero: {names} unknown or missing; allowed: {', '.join(sorted(allowed))}")
    zero = Zero(**values)
    if zero.stage not in STAGES:
        raise ClusterError(f"zero.stage={zero.stage} is unknown; allowed: {', '.join(map(str, STAGES))}")
    if zero.offload and zero.stage != 3:
        raise ClusterError(f"zero.offload=true needs zero.stage=3, which is {zero.stage}")
    if zero.whole_below < 0:
        raise ClusterError(f"zero.whole_below={zero.whole_below} must be at least 0")
    if zero.rank_timeout_s <= 0:
        raise ClusterError(f"zero.rank_timeout_s={zero.rank_timeout_s} must be above 0")
    return zero


def require_installed(zero: Zero) -> None:
    """Raises ClusterError."""
    if zero.stage and importlib.util.find_spec("deepspeed") is None:
        raise ClusterError(f"zero=stage{zero.stage} needs DeepSpeed; pip install 'neurogen[zero]', or set zero=none")
