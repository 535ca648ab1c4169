"""Plain values against the types of a dataclass, as OmegaConf resolves them from YAML.

in:  a section's key, its values, the dataclass that they are for
out: nothing, or ClusterError: the key and value that were given, and what is allowed
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from hpc.errors import ClusterError

NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", list: "a list, [A,B]"}


@cache
def _hints(schema: type) -> dict[str, Any]:
    """The types of its fields; many records are of one dataclass."""
    return get_type_hints(schema)


def require_fields(section: str, values: Any, schema: type) -> None:
    """Raises ClusterError where keys are unknown or missing, or a value has another type than its field."""
    allowed = [item.name for item in fields(schema)]
    if not isinstance(values, Mapping):
        raise ClusterError(f"{section}={values} has keys of its own: {', '.join(allowed)}; write {section}.KEY=VALUE")
    unknown, missing = set(values) - set(allowed), set(allowed) - set(values)
    if unknown or missing:
        problem = f"unknown {', '.join(sorted(unknown))}" if unknown else f"missing {', '.join(sorted(missing))}"
        raise ClusterError(f"{section}: {problem}; allowed: {', '.join(sorted(allowed))}")
    for name, kind in _hints(schema).items():
        if not _fits(values[name], kind):
            kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
            expected = " or ".join(_name(part) for part in kinds)
            raise ClusterError(f"{section}.{name}={_written(values[name])} must be {expected}")


def require_types(item: Any) -> None:
    """Raises TypeError where a field of a dataclass has a value of another type; for what was read from a file."""
    schema: type = type(item)
    for name, kind in _hints(schema).items():
        if not _fits(getattr(item, name), kind):
            raise TypeError(f"{name}={getattr(item, name)!r}")


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, UnionType):
        return any(_fits(value, part) for part in get_args(kind))
    origin = get_origin(kind)
    if origin in (list, tuple):
        return isinstance(value, origin) and all(_fits(item, get_args(kind)[0]) for item in value)
    if origin is dict:
        return isinstance(value, Mapping)
    if issubclass(kind, StrEnum):
        return value in list(kind)
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _name(kind: Any) -> str:
    if kind is NoneType:
        return "null"
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return " or ".join(kind)
    return NAMES.get(get_origin(kind) or kind, "keys with values, {KEY: VALUE}")


def _written(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
