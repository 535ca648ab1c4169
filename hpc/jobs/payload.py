"""What a job is to do, as data: payload.json in the folder of its batch.

in:  the steps of a batch as their program describes them, or a site check
out: the step that a job runs; ClusterError where somebody else may have written the file

No object travels. The program whose steps these are is named by the job's command, which the scheduler keeps, and not
by a file. It makes a step of its description, and only steps of its own kinds. The command also has the file's sha256:
another payload of the same account, an older one, is not taken for this one.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from hpc.errors import ClusterError
from hpc.jobs.files import write_bytes
from hpc.jobs.graph import Step
from hpc.jobs.owned import read_owned
from hpc.jobs.site_check import SiteCheck
from hpc.jobs.sweep import Sweep
from hpc.ranks.zero import Zero, single_process

FILE = "payload.json"


class Program(Protocol):
    """A module that knows what steps are. All that it describes is plain values, as JSON holds them."""

    interrupted: type[BaseException]  # what a step raises after it was stopped and has saved
    refused: type[BaseException]  # what a step raises if one line for the user is enough

    def describe(self, steps: Sequence[Any]) -> Any:
        """Steps with all that they need."""

    def step_from(self, description: Any, index: int) -> Step:
        """One of these steps. Raises `refused` for a description of anything else."""

    def runtime_from(self, settings: Any) -> Any:
        """The argument of Step.run: a dataclass with a field `stop`, a threading.Event."""

    def read_inputs(self, inputs: Any) -> None:
        """Read what steps will read, without much work. Raises `refused` for what is missing or broken."""


def program_named(name: str) -> Program:
    """The module of this name. Raises ClusterError if it cannot be imported."""
    try:
        return cast(Program, importlib.import_module(name))
    except ImportError as error:
        raise ClusterError(f"the program {name} cannot be imported here ({error})") from error


@dataclass(frozen=True)
class Payload:
    """Of a batch of steps, or of a site check, which is read where the code of steps cannot be imported."""

    steps: Any  # None of a check
    runtime: Any
    check: SiteCheck | None
    zero: Zero
    max_requeues: int

    @staticmethod
    def of(sweep: Sweep, steps: Sequence[Step], max_requeues: int) -> Payload:
        """That of a batch of these steps."""
        described = program_named(sweep.program).describe(steps)
        return Payload(described, sweep.runtime, None, sweep.zero, max_requeues)

    @staticmethod
    def of_check(check: SiteCheck, zero: Zero) -> Payload:
        """That of a site check."""
        return Payload(None, None, check, single_process(zero), max_requeues=0)

    def write(self, folder: Path) -> str:
        """Into the batch's folder, where only this account may write it. Returns the file's sha256."""
        check = None if self.check is None else self.check.as_values()
        values = {
            "steps": self.steps,
            "runtime": self.runtime,
            "check": check,
            "zero": asdict(self.zero),
            "max_requeues": self.max_requeues,
        }
        content = json.dumps(values).encode()
        write_bytes(folder / FILE, content, mode=0o644)  # whatever the umask, no other account may write it
        return hashlib.sha256(content).hexdigest()

    @staticmethod
    def read(folder: Path, digest: str | None = None) -> Payload:
        """From the batch's folder. Raises ClusterError where others may have written it, or it is broken or another.

        `digest` is its sha256; None where the command has none, that of a process of this machine.
        """
        path = folder / FILE
        content = read_owned(path)
        if digest is not None and hashlib.sha256(content).hexdigest() != digest:
            raise ClusterError(f"{path} is not the file that this job was submitted with; submit again")
        try:
            values = json.loads(content)
            check = None if values["check"] is None else SiteCheck.from_values(values["check"])
            zero = Zero(**values["zero"])
            return Payload(values["steps"], values["runtime"], check, zero, values["max_requeues"])
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise ClusterError(f"{path} is no payload of this version ({error}); submit again") from error

    def step(self, program: Program, index: int) -> Step:
        """The step of the job with this index. Raises ClusterError where it is none of the program's."""
        try:
            return program.step_from(self.steps, index)
        except program.refused as error:
            raise ClusterError(str(error)) from error
