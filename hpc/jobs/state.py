"""The states of a step."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Of a step; hpc.jobs.diagnosis says when it is in each."""

    DONE = "done"
    RUNNING = "running"
    PENDING = "pending"
    FAILED = "failed"
    MISSING = "missing"
    UNKNOWN = "unknown"
