"""A command of SLURM's: asked, and asked again while the controller does not answer.

in:  the words of a command, such as squeue's
out: what it prints; Unanswered where it may have been carried out, ClusterError where it refuses
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from hpc.errors import ClusterError, Unanswered

# Messages of a controller that is busy, restarting or unreachable. It may have carried out the request all the same.
AMBIGUOUS = (
    "timed out",
    "Unable to contact slurm controller",
    "Connection re",  # refused, reset
    "Zero Bytes were transmitted",
    "Unexpected message received",
    "Message send failure",
    "Message receive failure",
    "Communication connection failure",
    "Communication shutdown failure",
    "not connected",
    "Resource temporarily unavailable",
    "in standby mode",  # of a backup controller that has not taken over yet
)
ATTEMPTS = 6
NAME_OF_A_CLUSTER = "[A-Za-z0-9_.,-]*"
LONGEST_PAUSE_S = 60.0
LONGEST_ANSWER_S = 120.0  # a command that hangs longer has not been answered
UNLISTED = "Invalid user"  # squeue before SLURM 25.05 says so of a user that it cannot look up, and ends well
DEFAULTS_OF_USERS = ("SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_")  # variables that would hide jobs from us


def cluster() -> str:
    """Which cluster SLURM's commands speak of, as SLURM_CLUSTERS says it; "": that of this machine.

    Raises ClusterError where that is no name, and no list of names.
    """
    given = os.environ.get("SLURM_CLUSTERS", "")
    name = ",".join(map(str.strip, given.split(",")))
    if not re.fullmatch(NAME_OF_A_CLUSTER, name):
        raise ClusterError(
            f"SLURM_CLUSTERS={given!r} must be the name of a cluster; `sacctmgr show cluster` lists them"
        )
    return name


@contextmanager
def speaking_of(name: str) -> Iterator[None]:
    """Inside, SLURM's commands speak of the cluster for which `cluster` has given this name."""
    before = os.environ.pop("SLURM_CLUSTERS", None)
    if name:
        os.environ["SLURM_CLUSTERS"] = name
    try:
        yield
    finally:
        os.environ.pop("SLURM_CLUSTERS", None)
        if before is not None:
            os.environ["SLURM_CLUSTERS"] = before


def ask(command: list[str], attempts: int = ATTEMPTS, patience_s: float = LONGEST_ANSWER_S) -> str:
    """The output of a command of SLURM's, asked again while the controller does not answer within `patience_s`.

    Raises ClusterError if the command is missing or refuses, Unanswered after the last attempt.
    """
    return retrying(attempts)(ask_once, command, patience_s)


def ask_to_change(command: list[str], attempts: int, patience_s: float) -> str:
    """As `ask`, for what cannot be done twice: a refusal is none after an attempt that may have been carried out."""
    was_sent = False

    def once() -> str:
        nonlocal was_sent
        is_again, was_sent = was_sent, True
        with refusals_in_doubt(is_again):
            return ask_once(command, patience_s)

    return retrying(attempts)(once)


@contextmanager
def refusals_in_doubt(is_again: bool) -> Iterator[None]:
    """Inside, a refusal is Unanswered where `is_again`: what refuses may be what an earlier request has done."""
    try:
        yield
    except Unanswered:
        raise
    except ClusterError as error:
        if not is_again:
            raise
        raise Unanswered(f"{error}; an earlier request may have been carried out") from error


def ask_once(command: list[str], patience_s: float = LONGEST_ANSWER_S, given: bytes | None = None) -> str:
    """As `ask`, with one attempt. `given` is what the command reads from its standard input."""
    if shutil.which(command[0]) is None:
        raise ClusterError(f"there is no {command[0]} on this machine; ask your site where SLURM's commands are")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(DEFAULTS_OF_USERS)}
    try:
        process = subprocess.run(
            command, env=environment, input=given, capture_output=True, timeout=patience_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unanswered(f"{command[0]}: no answer within {patience_s:.0f} s") from error
    except OSError as error:  # no memory, no more processes
        raise ClusterError(f"{command[0]} cannot be started ({error.strerror})") from error
    errors = process.stderr.decode("utf-8", "replace")
    how = f"exit status {process.returncode}" if process.returncode >= 0 else f"ended by signal {-process.returncode}"
    message = f"{command[0]}: {' '.join(errors.split()) or how}"
    if process.returncode == 0:
        if command[0] == "squeue" and UNLISTED in errors:
            raise Unanswered(message)
        return process.stdout.decode("utf-8", "replace")
    if process.returncode < 0 or is_ambiguous(message):
        raise Unanswered(message)
    raise ClusterError(message)


def is_ambiguous(message: str) -> bool:
    """Whether the command may have been carried out although it failed."""
    return any(part in message for part in AMBIGUOUS)


def retrying(attempts: int = ATTEMPTS, before_sleep: Callable[[RetryCallState], None] | None = None) -> Retrying:
    """Calls a function again while it raises Unanswered, after pauses that double and are never equal for two users.

    The last Unanswered is raised.
    """
    pause_s = poll_s() / 5
    return Retrying(
        retry=retry_if_exception_type(Unanswered),
        stop=stop_after_attempt(attempts),
        wait=wait_exponential(multiplier=pause_s, max=LONGEST_PAUSE_S) + wait_random(0, pause_s),
        before_sleep=before_sleep,
        reraise=True,
    )


def poll_s() -> float:
    """Seconds from one look at the queue to the next, at first: 5, or the variable NEUROGEN_POLL_S.

    Raises ClusterError if the variable is no positive number.
    """
    text = os.environ.get("NEUROGEN_POLL_S", "5")
    if not re.fullmatch(r"\d+(\.\d+)?", text) or float(text) == 0:
        raise ClusterError(f"NEUROGEN_POLL_S={text} must be a number of seconds above 0, such as 5")
    return float(text)
