"""Errors for the user: one line that says what was given, what is allowed and what to do."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

OUT_OF_MEMORY = (
    "can't allocate memory",
    "Cannot allocate memory",
    "failed to map segment",
    "out of memory",  # of a GPU: torch's own allocator, and CUDA's
    "CUBLAS_STATUS_ALLOC_FAILED",
)


class UserError(ValueError):
    """A mistake that the user can mend, shown without a traceback. Any other exception is a defect of this program."""

    exit_status = 1

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook: the one line; with NEUROGEN_DEBUG=1 the traceback."""
        if os.environ.get("NEUROGEN_DEBUG"):
            return traceback.format_exception(self)
        return [f"{type(self).__name__}: {one_line(self)}"]


class Advised(UserError):
    """A problem and its advice, which names a setting. Where it is not there, `advising` gives other advice."""

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(problem, advice)
        self.problem, self.advice = problem, advice

    def __str__(self) -> str:
        return f"{self.problem}; {self.advice}"


class Incomplete(UserError):
    """Results were written, but some are missing."""

    exit_status = 3


class Interrupted(Exception):
    """A step saw the stop flag and has saved what it needs to go on later."""


def one_line(error: BaseException) -> str:
    """The message of an error, with its line breaks replaced by spaces."""
    return " ".join(str(error).split())


def some_of(items: Sequence[object], most: int = 20) -> str:
    """The first of many items, and how many more there are, for a message."""
    more = len(items) - most
    return ", ".join(map(str, items[:most])) + (f" and {more:,} more" if more > 0 else "")


def one_of(key: str, given: str, allowed: tuple[str, ...]) -> None:
    """Raise UserError unless `given` is one of `allowed`."""
    if given not in allowed:
        raise UserError(f"{key}={given} is unknown; allowed: {', '.join(allowed)}")


@contextmanager
def errors_in_one_line(*more: type[Exception], explain: Callable[[BaseException], str] = one_line) -> Iterator[None]:
    """End the program with one line and the error's exit status where the user can mend the error.

    These are UserError, OSError, want of memory, and the types in `more`, of whose errors `explain` makes the line.
    NEUROGEN_DEBUG=1 shows the traceback instead.
    """
    mendable: tuple[type[Exception], ...] = (UserError, OSError, *more)
    try:
        yield
    except mendable as error:
        if os.environ.get("NEUROGEN_DEBUG"):
            raise
        _end(explain(error), getattr(error, "exit_status", 1))
    except (MemoryError, RuntimeError, ImportError) as error:
        if os.environ.get("NEUROGEN_DEBUG") or not is_out_of_memory(error):
            raise
        _end(
            f"there is not enough memory ({one_line(error)}); free some, lower dataset.limit, dataset.resize or "
            "zoo.training.batch_size, or take a smaller backbone",
            exit_status=1,
        )


@contextmanager
def advising(kind: type[Advised], advice: str) -> Iterator[None]:
    """Errors of this kind get this advice. The outermost counts: it knows best what the user gave."""
    try:
        yield
    except kind as error:
        raise kind(error.problem, advice) from error.__cause__


@contextmanager
def saying_what_saves_memory(where: str, advice: str) -> Iterator[None]:
    """Turn want of memory into a UserError with this advice."""
    try:
        yield
    except (MemoryError, RuntimeError, ImportError) as error:
        if not is_out_of_memory(error):
            raise
        cause = ". ".join(one_line(error).split(". ")[:2])  # of a GPU, what follows is an essay
        raise UserError(f"{where}: there is not enough memory ({cause}); {advice}") from error


def _end(line: str, exit_status: int) -> NoReturn:
    print(f"error: {line}  [NEUROGEN_DEBUG=1 shows where]", file=sys.stderr)
    sys.exit(exit_status)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory is what was missing, of the host or of a GPU.

    Only Python and numpy have a type for it: torch raises RuntimeError, and the linker of its libraries ImportError.
    """
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in OUT_OF_MEMORY)
