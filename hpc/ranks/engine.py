"""DeepSpeed ZeRO as the engine of neurogen's training loop.

in:  a module, a torch optimiser, the config of a stage, and Zero
out: the same losses, values and moments as one process has, with values, gradients and moments sharded among ranks

Number formats do not change: what is trained is float32, the frozen backbone is bfloat16 on GPUs. Values and moments in
a checkpoint are whole and named by parameter, so that any number of ranks can resume from it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from hpc.ranks.zero import Zero, deepspeed_config

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Shard(NamedTuple):
    """The part of a parameter that lies in a flat tensor of this rank's optimiser."""

    parameter: nn.Parameter
    start: int  # in the flat tensor
    first: int  # the parameter's element that lies there
    numel: int


class ZeroEngine:
    """The Engine of neurogen.training.engine over several ranks; its methods are described there."""

    def __init__(
        self,
        zero: Zero,
        rank: int,
        size: int,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        stage: Any,
        batch_size: int,
        moments: Mapping[str, Tensor],
    ) -> None:
        """`zero`, `rank` and `size` are bound beforehand; the training loop gives the other arguments."""
        import deepspeed

        self.zero, self.rank = zero, rank
        self.contexts = range(rank, stage.contexts_per_step, size)
        self.batches = [self.contexts[first : first + batch_size] for first in range(0, len(self.contexts), batch_size)]
        self.trainables = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self.moment_names = ("exp_avg", "exp_avg_sq") if stage.optimizer == "adamw" else ()
        num_trained = sum(value.numel() for value in self.trainables.values())
        config = deepspeed_config(zero, len(self.batches), size, stage.clip_norm, num_trained)
        self.engine, *_ = deepspeed.initialize(
            model=module, optimizer=optimizer, config=config, dist_init_required=False
        )
        if moments:
            self._load(moments)
        self.with_gradient: set[int] = set()
        self.hooks = [
            value.register_post_accumulate_grad_hook(lambda value: self.with_gradient.add(id(value)))
            for value in self.trainables.values()
        ]

    def __call__(self, *inputs: Any) -> Tensor:
        """The module's forward pass."""
        output: Tensor = self.engine(*inputs)
        return output

    def backward(self, losses: Tensor) -> None:
        """Of a batch. DeepSpeed divides by the number of batches, which may differ in length."""
        self.engine.backward(losses.sum() * (len(self.batches) / len(self.contexts)))
        if not self.engine.is_gradient_accumulation_boundary():
            self.engine.step()

    def update(self, lr: float) -> float:
        """One optimiser step; returns the norm of the gradients before clipping. It is inf where one of them is not
        finite; DeepSpeed leaves the step out then."""
        idle = [value for value in self.trainables.values() if id(value) not in self.with_gradient]
        self._zero_old_gradients(idle)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        with self._unchanged(idle):
            self.engine.step()
        self.with_gradient.clear()
        return float(self.engine.get_global_grad_norm())

    @contextmanager
    def _unchanged(self, idle: Sequence[nn.Parameter]) -> Iterator[None]:
        """Inside, an optimiser step changes neither the values nor the moments of these parameters.

        torch leaves parameters without gradients alone. DeepSpeed takes their gradients as 0, so that their moments
        would move them.
        """
        states, idle_ids = self._torch_optimizer.state, {id(value) for value in idle}
        values = [_local_data(value).clone() for value in idle]
        flats = [
            (flat, flat.clone(), {name: state.clone() for name, state in states[flat].items()})
            for flat, shards in self._shards()
            if shards and all(id(shard.parameter) in idle_ids for shard in shards)
        ]
        yield
        for value, before in zip(idle, values, strict=True):
            _local_data(value).copy_(before)
        for flat, before, state in flats:
            flat.data.copy_(before)
            states[flat] = state
        self._gather_again(idle)

    def _gather_again(self, idle: Sequence[nn.Parameter]) -> None:
        """Restore small idle parameters, which stage 3 keeps whole: the step gathered them from changed shards."""
        whole = [value for value in idle if getattr(value, "ds_persist", False)]
        if whole:
            whole[0].partition(whole)  # type: ignore[attr-defined]
            whole[0].all_gather(whole)  # type: ignore[attr-defined]

    def _zero_old_gradients(self, idle: Sequence[nn.Parameter]) -> None:
        """Clear the gradients of parameters that no loss of this step used; stage 3 would use earlier ones."""
        import torch
        from deepspeed.utils import safe_set_local_grad

        optimizer = self.engine.optimizer
        for value in idle if self.zero.stage == 3 else ():
            *_, count = optimizer.grad_position[optimizer.get_param_id(value)]
            safe_set_local_grad(value, torch.zeros(count, device=self.engine.device))

    def values(self) -> dict[str, Tensor]:
        """Copies of the trained values by name, whole, on every rank."""
        if self.zero.stage == 3:
            return self._gather(lambda flat: flat)
        return {name: value.detach().clone() for name, value in self.trainables.items()}

    def moments(self) -> dict[str, Tensor]:
        """Copies of the optimiser's state as 'moment/name of the parameter', whole, on every rank."""
        states = self._torch_optimizer.state
        moments: dict[str, Tensor] = {}
        for moment in self.moment_names:
            by_name = self._gather(lambda flat: states[flat].get(moment))  # noqa: B023  (called at once)
            moments |= {f"{moment}/{name}": value for name, value in by_name.items()}
        if self.moment_names:
            moments |= {f"step/{name}": num_updates for name, num_updates in self._num_updates().items()}
        return moments

    def _num_updates(self) -> dict[str, Tensor]:
        """By parameter. A rank knows the numbers of its own shards; the others come from other ranks."""
        import torch
        import torch.distributed as dist

        states, by_value = self._torch_optimizer.state, dict[int, float]()
        for flat, shards in self._shards():
            if "step" in states[flat]:
                by_value |= {id(shard.parameter): float(states[flat]["step"]) for shard in shards}
        counts = torch.tensor([by_value.get(id(value), 0.0) for value in self.trainables.values()])
        counts = counts.to(self.engine.device)
        dist.all_reduce(counts, dist.ReduceOp.MAX)
        return {name: count.clone() for name, count in zip(self.trainables, counts.cpu(), strict=True)}

    def _gather(self, tensor_of: Callable[[Tensor], Tensor | None]) -> dict[str, Tensor]:
        """By parameter, the tensors of all ranks that lie beside their flat tensors; 0 where there is none yet."""
        import torch
        import torch.distributed as dist

        local = {
            id(shard.parameter): (tensor.narrow(0, shard.start, shard.numel), shard.first)
            for flat, shards in self._shards()
            if (tensor := tensor_of(flat)) is not None
            for shard in shards
        }
        by_name = {}
        for name, value in self.trainables.items():
            whole = torch.zeros(self.numel(value), device=self.engine.device)
            if id(value) in local:
                part, first = local[id(value)]
                target = whole[first : first + len(part)]  # stage 3's last shard may be longer than what is left
                target.copy_(part[: len(target)])
            dist.all_reduce(whole)
            by_name[name] = whole.view(getattr(value, "ds_shape", value.shape))
        return by_name

    def numel(self, value: nn.Parameter) -> int:
        """Elements of the whole parameter."""
        return int(getattr(value, "ds_numel", value.numel()))

    def release(self) -> None:
        """After training: make the trained values whole again, on every rank, and let go of the module.

        Hooks on parameters and a list of DeepSpeed's would keep it, and with it the backbone, until the process ends.
        """
        if self.zero.stage == 3:
            for value in self.trainables.values():
                value.all_gather()  # type: ignore[attr-defined]  # DeepSpeed's
        for hook in self.hooks:
            hook.remove()
        self.engine.destroy()
        _forget(self.engine.module)

    @property
    def _torch_optimizer(self) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = self.engine.optimizer.optimizer
        return optimizer

    def _load(self, moments: Mapping[str, Tensor]) -> None:
        """Take this rank's shards out of the whole moments."""
        import torch

        names = {id(value): name for name, value in self.trainables.items()}
        for flat, shards in self._shards():
            keys = [f"step/{names[id(shard.parameter)]}" for shard in shards]
            steps = [moments[key] for key in keys if key in moments]
            if not steps:
                continue  # it has not been updated yet
            if any(step != steps[0] for step in steps):  # groups.py gives what some steps do not use its own group
                raise RuntimeError(f"parameters of one group have different numbers of updates: {', '.join(keys)}")
            state = self._torch_optimizer.state[flat]
            state |= {"step": steps[0].clone()} | {moment: torch.zeros_like(flat) for moment in self.moment_names}
            for value, start, first, count in shards:
                for moment in self.moment_names:
                    saved = moments[f"{moment}/{names[id(value)]}"].flatten()[first : first + count]
                    state[moment].narrow(0, start, len(saved)).copy_(saved)

    def _shards(self) -> Iterator[tuple[Tensor, list[Shard]]]:
        """Every flat tensor that this rank's optimiser updates, with the shards that lie in it."""
        optimizer = self.engine.optimizer
        if self.zero.stage == 3:
            by_flat: dict[int, list[Shard]] = {}
            for value in self.trainables.values():
                index, start, count = optimizer.grad_position[optimizer.get_param_id(value)]
                by_flat.setdefault(index, []).append(Shard(value, start, self.rank * count, count))
            for index, shards in by_flat.items():
                yield optimizer.fp32_partitioned_groups_flat[index], shards
            return
        for flat, group in zip(optimizer.single_partition_of_fp32_groups, optimizer.bit16_groups, strict=True):
            mapped = [(value, value._hp_mapping) for value in group if value._hp_mapping is not None]
            shards = [
                Shard(
                    value,
                    mapping.hp_fragment_address.start,
                    mapping.lp_fragment_address.start,
                    mapping.lp_fragment_address.numel,
                )
                for value, mapping in mapped
            ]
            yield flat, shards


def _forget(module: nn.Module) -> None:
    """Take the module off the stack and out of the cache that stage 3 has for all modules of a process.

    Both are DeepSpeed's internals: a version without them has nothing to forget.
    """
    from deepspeed.runtime.zero import parameter_offload
    from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator

    stack = getattr(parameter_offload, "FWD_MODULE_STACK", [])
    stack[:] = [known for known in stack if known is not module]
    method = getattr(PartitionedParameterCoordinator, "_PartitionedParameterCoordinator__params_to_release", None)
    cached: Any = inspect.getclosurevars(method).nonlocals.get("func") if inspect.isfunction(method) else None
    if hasattr(cached, "cache_clear"):
        cached.cache_clear()


def _local_data(value: nn.Parameter) -> Tensor:
    """The part of a parameter that this rank holds: all its values, or its shard under stage 3."""
    data: Tensor = getattr(value, "ds_tensor", value).data
    return data
