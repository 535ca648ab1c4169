"""Limits of single numbers, noted in the dataclasses beside the fields that they hold for.

    lr: float = field(metadata=POSITIVE)

`require_limits` checks them all; rules.py has the rules that join several fields.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from math import inf
from typing import Any

from neurogen.errors import UserError


@dataclass(frozen=True)
class Limit:
    """Which numbers are allowed, and how the error says so."""

    text: str
    holds: Callable[[float], bool]


def _limit(text: str, holds: Callable[[float], bool]) -> dict[str, Limit]:
    return {"limit": Limit(text, holds)}


# metadata of a field; null is always allowed
POSITIVE = _limit("must be above 0", lambda value: 0 < value < inf)
NOT_NEGATIVE = _limit("must be at least 0", lambda value: value >= 0)
FRACTION = _limit("must lie between 0 and 1", lambda value: 0 <= value <= 1)
BELOW_1 = _limit("must lie between 0 and 1, 1 excluded", lambda value: 0 <= value < 1)
PROPER_FRACTION = _limit("must lie between 0 and 1, both excluded", lambda value: 0 < value < 1)


def require_limits(config: Any, within: str = "") -> None:
    """Check all numbers of a dataclass and of those in it; `within` is its own key. Raises UserError."""
    for item in fields(config):
        key, value = f"{within}{item.name}", getattr(config, item.name)
        limit = item.metadata.get("limit")
        if is_dataclass(value):
            require_limits(value, f"{key}.")
        elif limit is not None and value is not None and not limit.holds(value):
            raise UserError(f"{key}={value} {limit.text}")
