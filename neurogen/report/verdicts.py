"""Targets as a table: how large they are, and which can be generated.

in:  a Verdict for each
out: a Table
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neurogen.report.table import MISSING, Table, grouped


@dataclass(frozen=True)
class Verdict:
    """A target, and whether it can be generated. Numbers are None where the data are of another kind."""

    name: str
    num_parameters: int | None = None
    num_in_buffers: int | None = None  # values of buffers
    num_tokens: int | None = None
    reason: str = ""  # why it cannot


def targets(verdicts: Sequence[Verdict]) -> Table:
    """A line for every target."""
    lines = []
    for v in verdicts:
        counts = [MISSING if n is None else grouped(n) for n in (v.num_parameters, v.num_in_buffers, v.num_tokens)]
        lines.append((v.name, f"no: {v.reason}" if v.reason else "yes", *counts))
    return Table("targets", ("target", "can be generated", "parameters", "in buffers", "tokens"), lines, num_names=2)
