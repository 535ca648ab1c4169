"""The order of steps, and their execution in this process.

in:  the last step, on which all others hang
out: the folders of those that were not done
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neurogen.config import StepKind
from neurogen.errors import Interrupted, UserError
from neurogen.study.step import Step, name_of

if TYPE_CHECKING:
    from neurogen.training.runtime import Runtime


def in_order(last: Step) -> list[Step]:
    """All steps that `last` hangs on, itself included, each once and after what it needs.

    One experiment follows the other. graphlib would put all zoos of a study first, and what is finished when a run is
    stopped would be no table.
    """
    ordered: dict[str, Step] = {}

    def visit(step: Step) -> None:
        name = name_of(step)
        if name not in ordered:
            for needed in step.needs:
                visit(needed)
            ordered[name] = step

    visit(last)
    return list(ordered.values())


def chosen(last: Step, only: Sequence[str] | None, part: int, num_parts: int) -> list[Step]:
    """The steps of these kinds (None: all), every `num_parts`-th of them from `part` on, each after what it needs.

    Raises UserError for a part of all steps, which would need each other.
    """
    if only is None:
        if num_parts > 1:
            raise UserError(f"num_parts={num_parts} divides the steps that only= names; set only=[reference]")
        return in_order(last)
    steps = [step for step in in_order(last) if step.kind in only][part::num_parts]
    with_needs = [needed for step in steps if step.kind != StepKind.sweeps for needed in in_order(step)]
    return list({step.key: step for step in (*with_needs, *steps)}.values())


def run_here(steps: Sequence[Step], runtime: Runtime) -> None:
    """Run what is not done, one step after the other. With several ranks, rank 0 does the work of one process.

    Raises Interrupted between two steps once the runtime is told to stop.
    """
    undone = runtime.ranks.broadcast([not step.is_done for step in steps])  # as rank 0 sees it
    steps = [step for step, is_undone in zip(steps, undone, strict=True) if is_undone]
    for index, step in enumerate(steps, start=1):
        if runtime.any_stops():
            raise Interrupted
        if runtime.is_first:
            print(f"[{index}/{len(steps)}] {step.kind} {step.label}", flush=True)
        if step.shared:
            step.run(runtime)
        elif runtime.is_first:
            step.run(runtime.alone())
        runtime.ranks.barrier()  # the others wait for rank 0
