"""The error that is meant for the user: one line that says what was given, what is allowed, what to do."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """Shown without a traceback; every other exception is a defect of ours and shows one."""

    exit_status = 1


class Incomplete(UserError):
    """Results were written, and some of them are missing."""

    exit_status = 3


class Interrupted(Exception):
    """The stop flag was seen and everything needed to go on was saved."""


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def one_of(what: str, given: str, allowed: tuple[str, ...]) -> None:
    """Raise UserError unless `given` is one of `allowed`."""
    if given not in allowed:
        raise UserError(f"{what}={given} is unknown; allowed: {', '.join(allowed)}")


@contextmanager
def errors_in_one_line(*more: type[Exception], explain: Callable[[BaseException], str] = one_line) -> Iterator[None]:
    """What the user can mend ends the program with one line and status 1; NEUROGEN_DEBUG=1 shows the traceback."""
    mendable: tuple[type[Exception], ...] = (UserError, OSError, *more)
    try:
        yield
    except mendable as error:
        if os.environ.get("NEUROGEN_DEBUG"):
            raise
        print(f"error: {explain(error)}  [NEUROGEN_DEBUG=1 shows where]", file=sys.stderr)
        sys.exit(getattr(error, "exit_status", 1))
