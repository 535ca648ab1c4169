"""Whether two versions of the code compute the same: the losses of short runs, and the bits of what they trained.

    DEVICE=cpu python -m benchmarks.golden HEAD~1 HEAD [--cases image text] [--tolerance 1e-6]

in:  two versions, each a commit of this repository or the folder of a checkout
out: by case the largest relative difference of a loss, and whether the generators are equal in all bits; exit status 1
     where a loss differs by more than the tolerance

Bits are those of one machine: other processors add up in another order, so no figures are stored. A case whose words an
older version does not know ends with that version's message.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.setting import DEVICE, TINY
from benchmarks.whole import text_table

CHECKOUT = Path(__file__).parents[1]
TEXTS = ("mlp", "rnn")  # targets
CASES = {
    "image": [],
    "batch": ["recipe.inject.contexts_per_step=4", "recipe.tune.contexts_per_step=4"],
    "mlp": ["target=mlp"],
    "rnn": ["target=rnn"],
    "vision": ["backbone=tiny_qwen2_vl"],
    "recompute": ["backbone.gradient_checkpointing=true"],
    "relabel": ["preset=relabel", "backbone.num_layers=2"],
    "named": ["preset=named", "dataset.ways=[2,4]"],
    "latent": ["generator.latent=2", "recipe.inject.contexts_per_step=2"],
    "normalised": ["target=resnet8", "generator.soft_clip=1", "generator.block_tokens=256"],
}


@dataclass(frozen=True)
class Difference:
    """Between two runs of one case."""

    num_losses: int
    largest: float  # of the losses, relative
    same_bits: bool  # of the generators after stage 2


def main() -> None:
    """Runs the cases with both versions and prints how they differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--tolerance", type=float, default=1e-6)
    arguments = parser.parse_args()
    table = Table("case", "losses", "largest relative difference", "generators equal in all bits")
    largest = 0.0
    with version(arguments.before) as before, version(arguments.after) as after:
        for case in arguments.cases:
            with tempfile.TemporaryDirectory() as name:
                roots = [Path(name) / each for each in ("before", "after")]
                for checkout, root in zip((before, after), roots, strict=True):
                    run(checkout, case, root)
                difference = compare(*roots)
            largest = max(largest, difference.largest)
            bits = "yes" if difference.same_bits else "no"
            table.add_row(case, str(difference.num_losses), f"{difference.largest:.1e}", bits)
    Console().print(table)
    sys.exit(largest > arguments.tolerance)


@contextmanager
def version(given: str) -> Iterator[Path]:
    """The folder with the code of a commit, or the given one."""
    if Path(given).is_dir():
        yield Path(given).resolve()
        return
    archive = subprocess.run(["git", "archive", given], cwd=CHECKOUT, check=True, stdout=subprocess.PIPE).stdout
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(["tar", "--extract", "--directory", name], input=archive, check=True)
        yield Path(name)


def run(checkout: Path, case: str, root: Path) -> None:
    """Both stages of a case, with the code of this checkout."""
    root.mkdir()
    data = text_table(root) if case in TEXTS else []
    words = [*TINY, *data, *CASES[case], f"root={root}", f"device={DEVICE}", "only=[tune]"]
    environment = os.environ | {"PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-m", "neurogen.run", *words], cwd=checkout, env=environment, check=True)


def compare(before: Path, after: Path) -> Difference:
    """What differs between two roots with one run each. Raises ValueError where they have other steps."""
    losses = [
        [
            float(row[name])
            for kind in ("inject", "tune")
            for row in json.loads(file_of(root, kind, "metrics.json"))["history"]
            for name in ("loss", "validation_loss")
            if name in row
        ]
        for root in (before, after)
    ]
    generators = [file_of(root, "tune", "generator.safetensors") for root in (before, after)]
    pairs = list(zip(*losses, strict=True))
    return Difference(len(pairs), max(abs(a - b) / abs(a) for a, b in pairs), generators[0] == generators[1])


def file_of(root: Path, kind: str, name: str) -> bytes:
    """What the file of the only step of this kind holds."""
    (path,) = root.glob(f"{kind}/*/{name}")
    return path.read_bytes()


if __name__ == "__main__":
    main()
