"""Sections `large CASE`: both stages with a backbone of 7 to 8 billion random weights, beside its bare passes.

in:  Llama-3-8B or Qwen2-VL-7B, mnist5k and LeNet (on a CPU their tiny relatives); stage 1 with eight contexts per step,
     in one batch and one after the other, stage 2 with one
out: seconds per step, tokens per second, memory, MFU, and what dry_run=true expects; the bare pass of the language
     model there and back, for 1 to 8 contexts in one batch, without LoRA, with each attention kernel, and with
     recomputation, and with the encoder of pictures where there is one; from torch's profiler the kernels of such a
     pass, and how long the GPU is busy with them
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from benchmarks.bare import BarePass
from benchmarks.setting import ON_GPU, report
from benchmarks.stages import StageSpeed, experiment_of, run_stages, runtime_on
from benchmarks.timing import Work, synchronize, timed
from neurogen.cost.estimate import estimate
from neurogen.generator.backbone import VisionBackbone
from neurogen.generator.folder import load_generator
from neurogen.generator.generator import Generator
from neurogen.generator.parts import Picture
from neurogen.study.pipeline import Tune
from neurogen.study.step import Step

CASES = {"llama3_8b": "tiny_llama", "qwen2_vl_7b": "tiny_qwen2_vl"}  # and what stands for it on a CPU
LARGE = ["dataset=mnist5k", "target=lenet", "backbone.random_seed=0", "backbone.random_on_device=true"]
BATCHES = (1, 2, 4, 8)
WITH_ENCODER = "with the encoder"
FEW, MANY = BATCHES[0], BATCHES[-1]
KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "plain": SDPBackend.MATH,
}
NO_KERNEL = ("No available kernel", "No viable backend")  # torch's words on a GPU and on a CPU
REPEATS = 7 if ON_GPU else 2


def measure(folder: Path, case: str) -> None:
    """Both stages of a backbone of 7–8 B with random weights, and its bare passes beside them."""
    warnings.filterwarnings("ignore", category=UserWarning)  # why an attention kernel is not used, once per kernel
    warnings.filterwarnings("ignore", category=FutureWarning)  # transformers renames what switches recomputation
    setting = [
        "zoo.num_networks=2",
        "zoo.training.epochs=1",
        "recipe.inject.contexts_per_step=8",
        "recipe.inject.steps=7",
        "generator.context_warmup=1",  # all steps of stage 1 read samples
        "checkpoint_every=100",
        *(LARGE if ON_GPU else []),
        f"backbone={case if ON_GPU else CASES[case]}",
    ]
    experiment = experiment_of(folder, *setting)
    cost = estimate(experiment)
    report(dry_run=Expected(cost.peak_bytes / 2**30, cost.inject.seconds_per_step, cost.tune.seconds_per_step))
    runtime = runtime_on()
    steps = run_stages(folder, runtime, setting, ["inject", "tune"])
    report(**{kind: StageSpeed.of(steps[kind]) for kind in ("inject", "tune")})
    one_by_one = run_stages(folder / "one-by-one", replace(runtime, batch_tokens=1), setting, ["inject"])
    report(inject_one_by_one=StageSpeed.of(one_by_one["inject"]))
    generator = load_generator(steps["tune"].folder, runtime, gradient_checkpointing=True)
    bare = BarePass(generator.backbone, cost.tune.tokens_per_step, pictures_of(generator, steps["tune"]))
    report(passes=timed(works_of(bare), REPEATS), tokens_per_context=bare.num_tokens)
    report(profile=profiled(bare))


@dataclass(frozen=True)
class Expected:
    """What dry_run=true says: memory, and seconds per step of both stages."""

    peak_gb: float
    inject: float
    tune: float


def works_of(bare: BarePass) -> dict[str, Work]:
    """All passes that are compared, by name."""
    works: dict[str, Work] = {f"batch of {contexts}": partial(bare, contexts) for contexts in BATCHES}
    for contexts in (FEW, MANY):
        works[f"batch of {contexts}, without LoRA"] = partial(bare, contexts, lora=False)
        works[f"batch of {contexts}, recomputation"] = partial(bare, contexts, recompute=True)
        if bare.pictures:
            works[f"batch of {contexts}, {WITH_ENCODER}"] = partial(bare, contexts, sees=True)
    for name, kernel in KERNELS.items():
        work = partial(with_kernel, kernel, bare)
        if is_available(work):
            works[f"batch of {FEW}, {name} attention"] = work
    return works


def pictures_of(generator: Generator, tune: Step) -> list[Picture]:
    """Those of one context; none where the backbone does not see."""
    if not isinstance(generator.backbone, VisionBackbone):
        return []
    assert isinstance(tune, Tune)
    samples = tune.tasks[0].load().train.samples[: generator.config.context_samples]
    assert isinstance(samples, Tensor)
    return [Picture(pixels) for pixels in samples]


def with_kernel(kernel: SDPBackend, bare: BarePass) -> None:
    """One pass there and back with this kernel of attention."""
    with sdpa_kernel(kernel):
        bare(FEW)


def is_available(work: Work) -> bool:
    """Whether torch has the kernel for these shapes."""
    try:
        work()
    except RuntimeError as error:
        if not any(words in str(error) for words in NO_KERNEL):
            raise
        return False
    return True


def profiled(bare: BarePass) -> dict[str, Any]:
    """Kernels of one pass of one context. An operator's row in the profile repeats the time of its kernels, so only the
    rows of the GPU are added up."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        bare(FEW)
        synchronize()
    rows = [row for row in recorded.key_averages() if row.device_type.name == "CUDA" and not row.is_user_annotation]
    rows.sort(key=lambda row: -row.self_device_time_total)
    return {
        "kernels": sum(row.count for row in rows),
        "busy_s": sum(row.self_device_time_total for row in rows) / 1e6,
        "longest": [[row.key[:70], row.count, row.self_device_time_total / 1e6] for row in rows[:15]],
    }
