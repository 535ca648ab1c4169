"""Sections `whole CASE`: the program from end to end, as a user starts it.

in:  overrides of the config for every case
out: the exit status of `python -m neurogen.run`, and the mean test accuracy of the generated networks in percent
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.setting import DEVICE, LENET, ON_GPU, TINY, report

CASES = {
    "image": [],
    "text": ["target=mlp"],
    "rnn": ["target=rnn"],
    "vision": ["backbone=tiny_qwen2_vl"],
    "lenet": LENET if ON_GPU else [],
    "recompute": ["backbone.gradient_checkpointing=true"],
    **{zero: [f"zero={zero}"] for zero in ("stage1", "stage2", "stage3", "stage3_offload")},
}


def measure(folder: Path, case: str) -> None:
    """A whole run of the command, and the accuracies of its table."""
    overrides = [*TINY, *(text_table(folder) if case in ("text", "rnn") else []), *CASES[case]]
    command = [sys.executable, "-m", "neurogen.run", *overrides, f"root={folder}", f"device={DEVICE}"]
    status = subprocess.run(command, check=False).returncode
    tables = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("sweeps/*/results.json")]
    report(generated_percent=[row["generated_mean"] for table in tables for row in table])
    sys.exit(status)


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
