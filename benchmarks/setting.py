"""What all sections of the GPU benchmark have in common, without importing torch.

in:  DEVICE (cuda or cpu) in the environment
out: a small experiment as overrides of the config; results as lines that the driver collects
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Any

DEVICE = os.environ.get("DEVICE", "cuda")
ON_GPU = DEVICE == "cuda"
NUM_THREADS = 2 if ON_GPU else 1
RESULT = "RESULT "  # begins a line of a section's output that holds a part of its result

# A whole experiment in seconds. Sections replace what they measure.
TINY = [
    "dataset=digits",
    "target=cnn_small",
    "backbone=tiny_llama",
    "gpu=h200",
    "zoo.num_networks=3",
    "zoo.training.epochs=3",
    "classical.num_networks=2",
    "classical.training.epochs=3",
    "recipe.inject.steps=12",
    "recipe.tune.steps=12",
    "recipe.tune.batch_size=128",
    "evaluate.num_contexts=2",
    "checkpoint_every=4",
    f"num_threads={NUM_THREADS}",
]

# A LeNet of 61,706 parameters instead of the small CNN, and a wider backbone: enough to keep a GPU busy for a moment.
LENET = ["dataset=mnist5k", "target=lenet", "dataset.limit=1000", "backbone.architecture.hidden_size=256"]


def report(**values: Any) -> None:
    """Hand a part of the section's result to the driver at once, so that what follows may fail. Dataclasses become
    dictionaries."""
    print(RESULT + json.dumps(values, default=asdict), flush=True)


def reported(output: str) -> dict[str, Any]:
    """All that a section has reported, from what it printed."""
    lines = [line.removeprefix(RESULT) for line in output.splitlines() if line.startswith(RESULT)]
    return {name: value for line in lines for name, value in json.loads(line).items()}
