"""How several ranks share a step: conf/zero/*.yaml as a dataclass.

in:  plain values, as OmegaConf resolves them
out: Zero

stage 1   the optimiser's state is sharded            stage 2   the gradients as well
stage 3   all parameters as well, those of the frozen backbone included; offload keeps them in the host's memory
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hpc.errors import ClusterError
from hpc.types import require_fields

STAGES = (0, 1, 2, 3)


@dataclass(frozen=True)
class Zero:
    """One of conf/zero."""

    stage: int  # 0: a single process, without DeepSpeed
    offload: bool  # stage 3: parameters and the optimiser's state lie in the host's memory
    whole_below: int  # stage 3: parameters of at most so many numbers are not sharded
    rank_timeout_s: float  # how long a rank may stand still before all of them end


def single_process(zero: Zero) -> Zero:
    """The same for a step that one process does."""
    return replace(zero, stage=0, offload=False)


def among(zero: Zero, num_ranks: int) -> Zero:
    """The same for so many ranks. One alone has nobody to share with, so it goes without, and says so; but offloading
    saves memory there too."""
    if num_ranks > 1 or not zero.stage or zero.offload:
        return zero
    print(f"zero=stage{zero.stage} shares among processes, and this is one by itself: it runs as zero=none", flush=True)
    return single_process(zero)


def zero_from(values: Mapping[str, Any]) -> Zero:
    """Plain values → Zero. Raises ClusterError on keys that are unknown or missing, and on impossible values."""
    require_fields("zero", values, Zero)
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


def require_usable(zero: Zero, num_ranks: int) -> None:
    """Raises ClusterError for several ranks without ZeRO, and if DeepSpeed is needed and missing."""
    if num_ranks > 1 and not zero.stage:
        raise ClusterError(
            f"zero=none is for one process, and {num_ranks} were started; set zero=stage1, 2 or 3, or start one "
            "(srun --ntasks=1; in a shell of srun --pty, unset SLURM_STEP_ID)"
        )
    require_installed(zero)


def require_installed(zero: Zero) -> None:
    """Raises ClusterError if DeepSpeed is needed and missing."""
    if zero.stage and importlib.util.find_spec("deepspeed") is None:
        raise ClusterError(f"zero=stage{zero.stage} needs DeepSpeed; pip install 'neurogen[zero]', or set zero=none")


def deepspeed_config(zero: Zero, num_batches: int, size: int, clip_norm: float, num_trained: int) -> dict[str, Any]:
    """DeepSpeed's config for steps of `num_batches` batches on each of `size` ranks."""
    section: dict[str, Any] = {"stage": zero.stage, "overlap_comm": False, "contiguous_gradients": True}
    section |= {"reduce_bucket_size": max(num_trained, 1)}  # a buffer for so many numbers: all gradients at a time
    if zero.stage == 3:
        section |= {"stage3_param_persistence_threshold": zero.whole_below}
    if zero.offload:
        section |= {"offload_param": {"device": "cpu"}, "offload_optimizer": {"device": "cpu"}}
    return {
        "train_batch_size": num_batches * size,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": num_batches,
        "gradient_clipping": clip_norm,
        "zero_optimization": section,
        "zero_allow_untested_optimizer": True,
        "timers": {"throughput": {"enabled": False}},  # it waits for the GPU in every step
        "zero_force_ds_cpu_optimizer": False,  # it would be compiled, and its last bits differ from torch's
    }
