"""A step that cannot have the memory it needs says what to lower, in one line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import TINY, error_line, folders
from tests.programs import run_forked

MEGABYTES = 400
LONG = [
    "backbone.attention=eager",  # tokens² numbers for every head
    "+backbone.architecture.max_position_embeddings=20000",
    "generator.context_samples=300",
    "generator.context_warmup=1",
    "recipe.tune.batch_size=300",
]


def limited(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = ["tests.end_to_end.limited", str(MEGABYTES), *TINY, f"root={root}", *arguments]
    return run_forked(words, Path.cwd(), os.environ)


@pytest.mark.parametrize(
    ("inject_steps", "kind", "advice"),
    [
        (8, "inject", "or lower batch_tokens or generator.context_samples"),
        (0, "tune", "or lower recipe.tune.batch_size, batch_tokens or generator.context_samples"),
    ],
)
def test_a_stage_without_memory_says_what_to_lower(tmp_path: Path, inject_steps: int, kind: str, advice: str) -> None:
    alone = [] if inject_steps else ["recipe.tune.anchor=0", "generator.scale=fan_in"]
    process = limited(tmp_path, *LONG, f"recipe.inject.steps={inject_steps}", *alone)
    line = error_line(process)
    assert line.startswith(f"error: {kind} digits-cnn_small-tiny_llama: there is not enough memory (")
    assert "you tried to allocate" in line
    assert f"; set backbone.gradient_checkpointing=true, take a smaller backbone, {advice}  [" in line
    assert not (folders(tmp_path)[kind] / "DONE").exists()
