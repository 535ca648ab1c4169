"""One rank: what an engine holds after some steps, and what dry_run=true says that it will hold.

python -m torch.distributed.run --nproc-per-node=2 -m tests.hpc.footprint zero=stage2 dtype=bfloat16 …
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, replace
from threading import Event
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from hpc.ranks.distributed import runtime_of_ranks
from hpc.ranks.placement import Placement
from hpc.ranks.zero import zero_from
from neurogen.cost.estimate import Estimate, estimate
from neurogen.cost.scaling import held_bytes
from neurogen.data.dataset import load_images
from neurogen.experiment import experiment_from
from neurogen.generator.context import Context
from neurogen.generator.folder import build_generator
from neurogen.generator.prompts import Prompt
from neurogen.generator.task import Task
from neurogen.rng import rng_of
from neurogen.run import conf_folder
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.training.groups import optimizer_of
from neurogen.training.runtime import runtime_here


def main() -> None:
    overrides, dtypes = sys.argv[1:], {"dtype=bfloat16": torch.bfloat16, "dtype=float32": torch.float32}
    (dtype,) = (dtypes[word] for word in overrides if word in dtypes)
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        e = experiment_from(compose("config", [word for word in overrides if word not in dtypes]))
    zero = zero_from(e.zero)
    with runtime_of_ranks(
        lambda: replace(runtime_here("cpu", 1), dtype=dtype), zero, Placement.from_environment(os.environ), Event()
    ) as runtime:
        dataset = load_images(e.dataset)
        layout = ParameterLayout.of(build_network(e.target, dataset.shape))
        task = Task.of(dataset, e.dataset, e.target, Scale.of_fan_in(layout, None))
        generator = build_generator(e.backbone, e.generator, [task], 0, runtime)
        stage = replace(e.recipe.tune, contexts_per_step=runtime.ranks.size)
        engine = runtime.engine(generator, optimizer_of(generator, stage), stage, 1, {})
        context = Context.of(dataset.train, dataset.class_names, dataset.train.sample(2, rng_of(0, "held")))
        losses = []
        for _ in range(5):
            loss = (engine(task.name, [Prompt(task.instruction, context)]) - 1).square().mean()
            engine.backward(loss[None])
            engine.update(1e-2)
            losses.append(loss.item())
        estimated: Estimate = estimate(e, dtype)
        expected = asdict(held_bytes(estimated, stage, runtime.ranks.size, zero.stage))
        result = {"rank": runtime.ranks.rank, "losses": losses, "expected": expected, **bytes_held(engine)}
        print("FOOTPRINT", json.dumps(result))


def bytes_held(engine: Any) -> dict[str, Any]:
    """Bytes of this rank's tensors by what they are for; and the number formats of what is trained and frozen."""
    parameters = list(engine.engine.module.parameters())
    shards = {id(value): getattr(value, "ds_tensor", value) for value in parameters}
    trained = [value for value in parameters if value.requires_grad]
    optimizer = engine.engine.optimizer
    flats = getattr(optimizer, "fp32_partitioned_groups_flat", None) or optimizer.single_partition_of_fp32_groups
    moments = [value for state in optimizer.optimizer.state.values() for value in state.values() if value.dim()]
    return {
        "backbone": bytes_of([shards[id(value)] for value in parameters if not value.requires_grad]),
        "values": bytes_of([shards[id(value)] for value in trained]) + bytes_of(flats),
        "moments": bytes_of(moments),
        "dtypes": sorted({(value.requires_grad, str(shards[id(value)].dtype)) for value in parameters}),
    }


def bytes_of(tensors: list[torch.Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in tensors)


if __name__ == "__main__":
    main()
