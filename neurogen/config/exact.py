"""Plain values that have the types of a dataclass already, made into it at once.

in:  a dataclass of the config, and values as JSON and YAML hold them
out: the dataclass; None where a value has another type, or a key is missing or unknown

OmegaConf, which also converts values and says what is wrong with them, takes some hundred times as long.
"""

from __future__ import annotations

import copy
from enum import StrEnum
from typing import Any, TypeVar, get_args, get_origin

import cattrs

Section = TypeVar("Section")


class _Other(Exception):
    """The value is not of the type, or only after a conversion."""


def exactly(section: type[Section], values: Any) -> Section | None:
    """The values as this dataclass."""
    try:
        return _CONVERTER.structure(values, section)
    except (_Other, KeyError, TypeError, cattrs.ForbiddenExtraKeysError):
        return None


def _require(holds: bool) -> None:
    if not holds:
        raise _Other


def _same(value: Any, kind: type) -> Any:
    _require(type(value) is kind)
    return value


def _number(value: Any, _: type) -> float:
    _require(type(value) in (int, float))
    return float(value)


def _member(value: Any, kind: type[StrEnum]) -> StrEnum:
    _require(type(value) is str and value in kind.__members__)
    return kind[value]


def _items(value: Any, kind: Any) -> list[Any]:
    _require(type(value) is list)
    (member,) = get_args(kind)
    return [_CONVERTER.structure(item, member) for item in value]


def _mapping(value: Any, _: Any) -> dict[str, Any]:
    _require(type(value) is dict and all(type(key) is str for key in value))
    return copy.deepcopy(value)


_CONVERTER = cattrs.Converter(forbid_extra_keys=True, detailed_validation=False)
_CONVERTER.register_structure_hook_func(lambda kind: kind in (bool, int, str), _same)
_CONVERTER.register_structure_hook_func(lambda kind: kind is float, _number)
_CONVERTER.register_structure_hook_func(lambda kind: isinstance(kind, type) and issubclass(kind, StrEnum), _member)
_CONVERTER.register_structure_hook_func(lambda kind: get_origin(kind) is list, _items)
_CONVERTER.register_structure_hook_func(lambda kind: get_origin(kind) is dict, _mapping)
