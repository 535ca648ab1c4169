"""DeepSpeed ZeRO behind neurogen's Engine: the same loop, its values, gradients and moments shared out among ranks.

Values stay in the format that they have: what is trained is float32, the frozen backbone bfloat16 on GPUs. What a
checkpoint gets is whole and named by parameter, so that it can be resumed by any number of ranks.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from hpc.ranks.zero import Zero

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

MIB = 2**20
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


def config_of(zero: Zero, contexts: int, size: int, clip_norm: float, num_trained: int) -> dict[str, Any]:
    """DeepSpeed's config: `contexts` networks per step, one at a time, shared by `size` ranks."""
    section: dict[str, Any] = {"stage": zero.stage, "overlap_comm": False, "contiguous_gradients": True}
    section |= {"reduce_bucket_size": max(num_trained, 1)}  # a buffer of this many numbers: all gradients at a time
    if zero.stage == 3:
        section |= {"stage3_param_persistence_threshold": zero.whole_below}
    if zero.offload:
        section |= {"offload_param": {"device": "cpu"}, "offload_optimizer": {"device": "cpu"}}
    return {
        "train_batch_size": contexts,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": contexts // size,
        "gradient_clipping": clip_norm,
        "zero_optimization": section,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # it would be compiled, and differs from torch's in its last bits
    }


@contextmanager
def sharded_loading(zero: Zero, dtype: torch.dtype) -> Iterator[None]:
    """Inside, transformers loads a model in shares: with stage 3 no rank ever holds it whole."""
    if zero.stage != 3:
        yield
        return
    import torch
    import torch.distributed as dist
    from transformers.integrations import HfDeepSpeedConfig

    size = dist.get_world_size()
    config = config_of(zero, contexts=size, size=size, clip_norm=1.0, num_trained=0)
    config |= {"bf16": {"enabled": dtype is torch.bfloat16}}  # the format that the shares are made in
    kept = HfDeepSpeedConfig(config)  # transformers refers to it weakly: this keeps the mode on, and then off again
    give_back_above(MIB)
    try:
        yield
    finally:
        del kept
        give_back_above(32 * MIB)


def give_back_above(size: int) -> None:
    """glibc returns freed memory above this size to the system at once. Left to itself it keeps tensors of up to 32 MiB
    in a heap in which shares lie between what was freed, and a rank grows to the whole model."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, size)


def use_process_group() -> None:
    """DeepSpeed takes the process group that is there, and says no more than it must."""
    import logging
    import warnings

    import deepspeed

    # It would compile a reduction that is for inference only: beyond a small job's memory, and a build that is killed
    # leaves a lock that the next one waits for without end.
    deepspeed.ops.__compatible_ops__ = {}
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")  # about DeepSpeed's calls
    deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)


def whole(parameters: Sequence[nn.Parameter]) -> Any:
    """Inside, these parameters have their values, also where they are shared out."""
    if not any(hasattr(value, "ds_id") for value in parameters):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(list(parameters))


class ZeroEngine:
    """neurogen's Engine over several ranks."""

    def __init__(
        self,
        zero: Zero,
        rank: int,
        size: int,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        stage: Any,
        moments: Mapping[str, Tensor],
    ) -> None:
        """`zero`, `rank` and `size` are bound beforehand; the rest is what neurogen's training loop gives."""
        import deepspeed

        self.zero, self.rank = zero, rank
        self.contexts = range(rank, stage.contexts_per_step, size)
        self.trainables = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self.moment_names = ("exp_avg", "exp_avg_sq") if stage.optimizer == "adamw" else ()
        num_trained = sum(value.numel() for value in self.trainables.values())
        config = config_of(zero, stage.contexts_per_step, size, stage.clip_norm, num_trained)
        self.engine, *_ = deepspeed.initialize(
            model=module, optimizer=optimizer, config=config, dist_init_required=False
        )
        if moments:
            self._load(moments)
        self.with_gradient: set[int] = set()
        for value in self.trainables.values():
            value.register_post_accumulate_grad_hook(lambda value: self.with_gradient.add(id(value)))

    def __call__(self, *inputs: Any) -> Tensor:
        found: Tensor = self.engine(*inputs)
        return found

    def backward(self, loss: Tensor) -> None:
        self.engine.backward(loss)
        if not self.engine.is_gradient_accumulation_boundary():
            self.engine.step()

    def update(self, lr: float) -> float:
        idle = [value for value in self.trainables.values() if id(value) not in self.with_gradient]
        self._zero_old_gradients(idle)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        with self._resting(idle):
            self.engine.step()
        self.with_gradient.clear()
        return float(self.engine.get_global_grad_norm())

    @contextmanager
    def _resting(self, idle: Sequence[nn.Parameter]) -> Iterator[None]:
        """torch leaves a group without gradients alone; DeepSpeed takes them for 0, and its moments would move it."""
        states, numbers = self._torch_optimizer.state, {id(value) for value in idle}
        held = [_held(value).clone() for value in idle]
        flats = [
            (flat, flat.clone(), {name: state.clone() for name, state in states[flat].items()})
            for flat, shares in self._shares()
            if shares and all(id(value) in numbers for value, *_ in shares)
        ]
        yield
        for value, copy in zip(idle, held, strict=True):
            _held(value).copy_(copy)
        for flat, before, state in flats:
            flat.data.copy_(before)
            states[flat] = state
        self._gather_again(idle)

    def _gather_again(self, idle: Sequence[nn.Parameter]) -> None:
        """The end of a step has gathered small parameters, which stage 3 keeps whole, from shares that should have
        rested: gather them again."""
        kept = [value for value in idle if getattr(value, "ds_persist", False)]
        if kept:
            kept[0].partition(kept)  # type: ignore[attr-defined]
            kept[0].all_gather(kept)  # type: ignore[attr-defined]

    def _zero_old_gradients(self, idle: Sequence[nn.Parameter]) -> None:
        """Of what no loss of this step read: stage 3 keeps the share that it had before, and would use it again."""
        import torch
        from deepspeed.utils import safe_set_local_grad

        optimizer = self.engine.optimizer
        for value in idle if self.zero.stage == 3 else ():
            *_, count = optimizer.grad_position[optimizer.get_param_id(value)]
            safe_set_local_grad(value, torch.zeros(count, device=self.engine.device))

    def values(self) -> dict[str, Tensor]:
        """Copies of the trained values, whole, on every rank."""
        if self.zero.stage == 3:
            return self._gathered(lambda flat: flat)
        return {name: value.detach().clone() for name, value in self.trainables.items()}

    def moments(self) -> dict[str, Tensor]:
        """The optimiser's state as 'moment/name of the parameter', whole, on every rank."""
        states = self._torch_optimizer.state
        found: dict[str, Tensor] = {}
        for moment in self.moment_names:
            gathered = self._gathered(lambda flat: states[flat].get(moment))  # noqa: B023  (called at once)
            found |= {f"{moment}/{name}": value for name, value in gathered.items()}
        if self.moment_names:
            found |= {f"step/{name}": number for name, number in self._num_updates().items()}
        return found

    def _num_updates(self) -> dict[str, Tensor]:
        """By parameter. A rank knows those of its own shares; the others it is told."""
        import torch
        import torch.distributed as dist

        states, by_value = self._torch_optimizer.state, dict[int, float]()
        for flat, shares in self._shares():
            if "step" in states[flat]:
                by_value |= {id(value): float(states[flat]["step"]) for value, *_ in shares}
        numbers = torch.tensor([by_value.get(id(value), 0.0) for value in self.trainables.values()])
        numbers = numbers.to(self.engine.device)
        dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return {name: number.clone() for name, number in zip(self.trainables, numbers.cpu(), strict=True)}

    def _gathered(self, of_flat: Callable[[Tensor], Tensor | None]) -> dict[str, Tensor]:
        """What lies beside this rank's shares, put together with that of the others; 0 where there is nothing yet."""
        import torch
        import torch.distributed as dist

        own = {
            id(value): (beside.narrow(0, start, count), first)
            for flat, shares in self._shares()
            if (beside := of_flat(flat)) is not None
            for value, start, first, count in shares
        }
        found = {}
        for name, value in self.trainables.items():
            whole = torch.zeros(self.numel(value), device=self.engine.device)
            if id(value) in own:
                share, first = own[id(value)]
                place = whole[first : first + len(share)]  # the last share of stage 3 may be longer than what is left
                place.copy_(share[: len(place)])
            dist.all_reduce(whole)
            found[name] = whole.view(getattr(value, "ds_shape", value.shape))
        return found

    def numel(self, value: nn.Parameter) -> int:
        return int(getattr(value, "ds_numel", value.numel()))

    def release(self) -> None:
        """Training is over: the trained values are whole again, on every rank."""
        if self.zero.stage == 3:
            for value in self.trainables.values():
                value.all_gather()  # type: ignore[attr-defined]  # DeepSpeed's

    @property
    def _torch_optimizer(self) -> torch.optim.Optimizer:
        found: torch.optim.Optimizer = self.engine.optimizer.optimizer
        return found

    def _load(self, moments: Mapping[str, Tensor]) -> None:
        """Every rank takes its own share of the moments out of the whole ones."""
        import torch

        names = {id(value): name for name, value in self.trainables.items()}
        for flat, shares in self._shares():
            steps = [moments[key] for value, *_ in shares if (key := f"step/{names[id(value)]}") in moments]
            if not steps:
                continue  # nothing of it has been updated yet
            state = self._torch_optimizer.state[flat]
            state |= {"step": steps[0].clone()} | {moment: torch.zeros_like(flat) for moment in self.moment_names}
            for value, start, first, count in shares:
                for moment in self.moment_names:
                    saved = moments[f"{moment}/{names[id(value)]}"].flatten()[first : first + count]
                    state[moment].narrow(0, start, len(saved)).copy_(saved)

    def _shares(self) -> Iterator[tuple[Tensor, list[tuple[nn.Parameter, int, int, int]]]]:
        """Every flat tensor that this rank optimises, with what lies in it: (parameter, start in the flat tensor,
        first element of the parameter, number of elements)."""
        optimizer = self.engine.optimizer
        if self.zero.stage == 3:
            by_flat: dict[int, list[tuple[nn.Parameter, int, int, int]]] = {}
            for value in self.trainables.values():
                index, start, count = optimizer.grad_position[optimizer.get_param_id(value)]
                by_flat.setdefault(index, []).append((value, start, self.rank * count, count))
            for index, shares in by_flat.items():
                yield optimizer.fp32_partitioned_groups_flat[index], shares
            return
        for flat, group in zip(optimizer.single_partition_of_fp32_groups, optimizer.bit16_groups, strict=True):
            mapped = [(value, value._hp_mapping) for value in group if value._hp_mapping is not None]
            yield (
                flat,
                [
                    (value, at.hp_fragment_address.start, at.lp_fragment_address.start, at.lp_fragment_address.numel)
                    for value, at in mapped
                ],
            )


def _held(value: nn.Parameter) -> Tensor:
    """What a rank holds of a parameter: its values, or under stage 3 its share of them."""
    found: Tensor = getattr(value, "ds_tensor", value).data
    return found
