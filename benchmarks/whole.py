"""Sections `whole CASE`: the program from end to end, as a user starts it.

in:  overrides of the config for every case
out: the exit status of `python -m neurogen.run`, and the mean test accuracy of the generated networks in percent

A process by itself runs as zero=none, whatever stage 1, 2 or 3 the command names. So for these the steps are run from
Python, by one rank with DeepSpeed's engine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from threading import Event

from benchmarks.setting import DEVICE, LENET, ON_GPU, TINY, report

SHARED = ("stage1", "stage2", "stage3")
CASES = {
    "image": [],
    "text": ["target=mlp"],
    "rnn": ["target=rnn"],
    "vision": ["backbone=tiny_qwen2_vl"],
    "lenet": LENET if ON_GPU else [],
    "recompute": ["backbone.gradient_checkpointing=true"],
    **{zero: [f"zero={zero}"] for zero in (*SHARED, "stage3_offload")},
}


def measure(folder: Path, case: str) -> None:
    """A whole run of the command, and the accuracies of its table."""
    data = text_table(folder) if case in ("text", "rnn") else []
    overrides = [*TINY, *data, *CASES[case], f"root={folder}", f"device={DEVICE}"]
    status = 0
    if case in SHARED:
        run_with_engine(overrides)
    else:
        status = subprocess.run([sys.executable, "-m", "neurogen.run", *overrides], check=False).returncode
    tables = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("sweeps/*/results.json")]
    report(generated_percent=[row["generated_mean"] for table in tables for row in table])
    sys.exit(status)


def run_with_engine(overrides: Sequence[str]) -> None:
    """All steps of the experiment, by one rank of ZeRO."""
    from hpc.ranks.distributed import runtime_of_ranks
    from hpc.ranks.placement import Placement
    from hpc.ranks.zero import zero_from
    from neurogen.program import runtime_from, settings_of
    from neurogen.run import compose
    from neurogen.study.execution import in_order, run_here
    from neurogen.study.graph import steps_of

    experiment = compose(overrides)
    make_runtime = partial(runtime_from, settings_of(experiment))
    placement = Placement.from_environment(os.environ)
    with runtime_of_ranks(make_runtime, zero_from(experiment.zero), placement, Event()) as runtime:
        run_here(in_order(steps_of([experiment])), runtime)


def text_table(folder: Path) -> list[str]:
    """600 texts of two classes in a CSV file, and the overrides that read it."""
    texts = [f"{('dull', 'warm')[index % 2]} film number {index},{('bad', 'good')[index % 2]}" for index in range(600)]
    path = folder / "texts.csv"
    path.write_text("\n".join(["text,label", *texts, ""]), encoding="utf-8")
    return [
        "dataset=text_table",
        f"dataset.path={path}",
        "dataset.text.columns=[text]",
        "dataset.text.label=label",
        "dataset.text.max_tokens=24",
        "dataset.text.embedding_dim=16",
    ]
