"""What the steps of a study took and will take, as types: costs.json in the folder of a study.

cost/ledger.py makes them; tables show them. No torch here, so that a finished run is shown at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurogen.config import StepKind

FILE = "costs.json"


@dataclass(frozen=True)
class KindCost:
    """The steps of one kind. Seconds, on one GPU."""

    kind: StepKind
    num_steps: int
    num_done: int
    took: float  # those that are done
    estimated: float  # the same steps, by the estimate
    to_come: float  # the others, from finished steps like them, or else by the estimate
    num_like: int  # of those to come, how many have a finished step like them


@dataclass(frozen=True)
class Ledger:
    """All kinds of steps, in the order in which they run."""

    gpu: str  # for which the estimate is
    kinds: tuple[KindCost, ...]

    @property
    def to_come(self) -> float:
        """Seconds of all steps to come."""
        return sum(kind.to_come for kind in self.kinds)
