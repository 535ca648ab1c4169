"""The estimate of dry_run=true as a person reads it.

in:  an estimate, and plans for several GPUs
out: text on the terminal
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import rich.table

from neurogen.report.terminal import new_console

if TYPE_CHECKING:
    from neurogen.config import Experiment, GpuConfig
    from neurogen.cost.estimate import Estimate
    from neurogen.cost.scaling import Plan

USABLE = 0.9  # of a GPU's memory; CUDA and the gaps between tensors take the rest


def show_estimate(experiment: Experiment, estimate: Estimate, plans: Sequence[Plan]) -> None:
    """Print what an experiment is estimated to need, on one GPU and on several."""
    e, gpu = experiment, experiment.gpu
    title = f"{e.name} · {gpu.name}, {100 * gpu.utilisation:.0f} % of {gpu.peak_tflops:g} TFLOP/s assumed"
    table = rich.table.Table(title=title, title_justify="left", show_header=False, min_width=len(title))
    unused = estimate.published_parameters - estimate.backbone_parameters
    table.add_row("backbone", f"{estimate.published_parameters:,} parameters" + (f", {unused:,} unused" * bool(unused)))
    trained = {
        "LoRA": estimate.trained_parameters.lora,
        "parameter tokens": estimate.trained_parameters.parameter_tokens,
        "tokens of codes": estimate.trained_parameters.latent_tokens,
        "projection": estimate.trained_parameters.projection,
        "patch embedding": estimate.trained_parameters.patch_embedding,
    }
    table.add_row("trained", ", ".join(f"{count:,} {part}" for part, count in trained.items() if count))
    table.add_row("target", f"{estimate.target_parameters:,} parameters")
    table.add_section()
    for stage in estimate.stages:
        table.add_row(
            stage.name,
            f"{stage.steps:,} steps × {stage.tokens_per_step:,} tokens, {stage.flops_per_step / 1e12:.3g} TFLOP, "
            f"{stage.seconds_per_step:.3g} s each: {stage.hours:.2g} h",
        )
    table.add_section()
    parts = {
        "weights (bfloat16)": estimate.weight_bytes,
        "trained, gradients, optimiser": estimate.trained_bytes,
        "activations": estimate.activation_bytes,
    }
    for name, size in parts.items():
        table.add_row(name, f"{size / 1e9:.2f} GB")
    fits = "fits" if has_room(gpu, estimate.peak_bytes) else "does not fit"
    table.add_row(
        "memory per GPU", f"{estimate.peak_bytes / 1e9:.2f} GB: {fits} into {gpu.memory_gb:g} GB", style="bold"
    )
    hours = sum(stage.hours for stage in estimate.stages)
    table.add_row("both stages", f"{hours:.2g} GPU-hours", style="bold")
    console = new_console()
    console.print(table)
    console.print(plans_table(experiment.gpu, plans))


def plans_table(gpu: GpuConfig, plans: Sequence[Plan]) -> rich.table.Table:
    """Memory and time on several GPUs, a line per layout and ZeRO stage."""
    table = rich.table.Table(title=f"on several GPUs (nodes × {gpu.name})", title_justify="left")
    for name in ("GPUs", "zero", "GB per GPU", "fits", "contexts per step", "s per step", "GPU-hours"):
        table.add_column(name, justify="left" if name in ("GPUs", "zero", "fits") else "right")
    for plan in plans:
        table.add_row(
            f"{plan.layout.nodes} × {plan.layout.gpus_per_node}",
            f"stage{plan.zero_stage}" if plan.zero_stage else "none",
            f"{plan.bytes_per_gpu / 1e9:.1f}",
            "yes" if has_room(gpu, plan.bytes_per_gpu) else "no",
            str(plan.contexts_per_step),
            f"{plan.seconds_per_step:.2g}",
            f"{plan.gpu_hours:.2g}",
            end_section=plan.zero_stage in (0, 3),
        )
    return table


def has_room(gpu: GpuConfig, num_bytes: int) -> bool:
    """Whether so much fits into the memory of a GPU."""
    return num_bytes < USABLE * gpu.memory_gb * 1e9
