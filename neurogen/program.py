"""What jobs know of this program: steps, inputs and runtimes as plain values, and back.

in:  steps, what they read, how they run
out: the same as JSON can hold it; from that, in another process, what it describes, and nothing else

A hpc.jobs.payload.Program. A description names only kinds of steps. What a step does is in the code of its kind, so
whoever changes a description can change what is computed, and not which functions are called; a step that differs from
its name is refused. The functions that a config names (dataset.load, target.build) are part of that name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, get_args

from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn

from neurogen.config import Experiment
from neurogen.config.exact import UNLIKE, exact_converter
from neurogen.errors import Interrupted, UserError
from neurogen.inputs import Inputs
from neurogen.study.execution import in_order
from neurogen.study.pipeline import Aggregate, Classical, Evaluate, Inject, Reference, Tune
from neurogen.study.step import Step, name_of
from neurogen.study.task_spec import Embed

if TYPE_CHECKING:
    from neurogen.training.runtime import Runtime

NAME = "neurogen.program"
KINDS: dict[str, type[Step]] = {
    kind.kind: kind for kind in (Embed, Reference, Classical, Inject, Tune, Evaluate, Aggregate)
}
interrupted, refused = Interrupted, UserError


@dataclass(frozen=True)
class Settings:
    """How a process computes."""

    device: str
    num_threads: int
    batch_tokens: int
    deterministic: bool


def describe(steps: Sequence[Step]) -> dict[str, Any]:
    """Steps with all that they need: {asked: [NAME], steps: {NAME: fields, with names in place of steps}}."""
    described: dict[str, Any] = {}
    for step in steps:
        for needed in in_order(step):
            if name_of(needed) not in described:
                described[name_of(needed)] = _FIELDS[type(needed)](needed)
    return {"asked": [name_of(step) for step in steps], "steps": described}


def step_from(description: Any, index: int) -> Step:
    """The step at this index. Raises UserError for a description that `describe` did not make with this code."""
    made: dict[str, Step] = {}
    converter = exact_converter()

    def make(name: Any, _: Any = None) -> Step | None:
        if name is not None and name not in made:
            kind = KINDS[name.partition("-")[0]]
            step = structured[kind](description["steps"][name], kind)
            if name_of(step) != name:
                raise UserError(f"the description of {name} is that of {name_of(step)}; submit it again")
            made[name] = step
        return None if name is None else made[name]

    converter.register_structure_hook_func(_is_step, make)
    structured: Any = {kind: make_dict_structure_fn(kind, converter) for kind in KINDS.values()}
    try:
        step = make(description["asked"][index])
    except (*UNLIKE, IndexError) as error:
        raise UserError(f"step {index} is not described as this code does it ({error!r}); submit it again") from error
    if step is None:
        raise UserError(f"step {index} has no name in its description; submit it again")
    return step


def settings_of(experiment: Experiment) -> dict[str, Any]:
    """How an experiment's steps run, for `runtime_from`."""
    e = experiment
    settings = Settings(str(e.device), e.num_threads, e.batch_tokens, e.deterministic)
    return dict(_CONVERTER.unstructure(settings))


def runtime_from(settings: Any) -> Runtime:
    """The runtime of this process. Imports torch. Raises UserError as `runtime_here` does."""
    from neurogen.training.runtime import runtime_here

    s = _CONVERTER.structure(settings, Settings)
    return runtime_here(s.device, s.num_threads, s.batch_tokens, s.deterministic)


def inputs_of(last: Aggregate) -> dict[str, Any]:
    """What the steps of a study read from outside, for `read_inputs`."""
    return dict(_CONVERTER.unstructure(Inputs.of(last)))


def inputs_from(described: Any) -> Inputs:
    """What `inputs_of` described. Raises UserError for anything else."""
    try:
        return _CONVERTER.structure(described, Inputs)
    except UNLIKE as error:
        raise UserError(f"the inputs are not described as this code does it ({error!r}); submit it again") from error


def read_inputs(inputs: Any) -> None:
    """Read them. Raises UserError for what is missing, broken or other than planned, and for no description of ours."""
    inputs_from(inputs)()


def _is_step(kind: Any) -> bool:
    """Whether a type is that of a step, of one of several kinds, or of one that may be missing."""
    if isinstance(kind, UnionType):
        return all(part is NoneType or _is_step(part) for part in get_args(kind))
    return isinstance(kind, type) and issubclass(kind, Step)


_CONVERTER = exact_converter()
_CONVERTER.register_unstructure_hook_func(lambda kind: isinstance(kind, type) and issubclass(kind, Step), name_of)
_FIELDS: Any = {kind: make_dict_unstructure_fn(kind, _CONVERTER) for kind in KINDS.values()}
