"""Plain values that have the types of a dataclass already, made into it at once.

in:  a dataclass of the config, and values as JSON and YAML hold them
out: the dataclass; None where a value has another type, or a key is missing or unknown

OmegaConf, which also converts values and says what is wrong with them, takes some hundred times as long.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar, get_args, get_origin

import cattrs

Section = TypeVar("Section")


class NotExact(Exception):
    """The value is not of the type, or only after a conversion."""


UNLIKE = (NotExact, KeyError, TypeError, AttributeError, cattrs.ForbiddenExtraKeysError)


def exactly(section: type[Section], values: Any) -> Section | None:
    """The values as this dataclass."""
    try:
        return _CONVERTER.structure(values, section)
    except UNLIKE:
        return None


def _require(holds: bool) -> None:
    if not holds:
        raise NotExact


def _same(value: Any, kind: type) -> Any:
    """cattrs comes here with enums of texts too, since they are texts."""
    if issubclass(kind, StrEnum):
        _require(type(value) is str and value in kind.__members__)
        return kind[value]
    _require(type(value) is kind)
    return value


def _number(value: Any, _: type) -> float:
    _require(type(value) in (int, float))
    return float(value)


def _items(converter: cattrs.Converter, value: Any, kind: Any) -> list[Any]:
    _require(type(value) is list)
    (member,) = get_args(kind)
    return [converter.structure(item, member) for item in value]


def _mapping(converter: cattrs.Converter, value: Any, kind: Any) -> dict[str, Any]:
    _require(type(value) is dict and all(type(key) is str for key in value))
    _, member = get_args(kind)
    return {
        key: copy.deepcopy(item) if member is Any else converter.structure(item, member) for key, item in value.items()
    }


def _is_a(outer: type) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) is outer


def exact_converter() -> cattrs.Converter:
    """What makes dataclasses of plain values that have their types already, and back; hooks may be added.

    It raises one of UNLIKE for other values.
    """
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=False)
    converter.register_unstructure_hook(StrEnum, attrgetter("name"))  # else members stay what they are
    for kind in (bool, int, str):
        converter.register_structure_hook(kind, _same)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook_func(_is_a(list), partial(_items, converter))
    converter.register_structure_hook_func(_is_a(dict), partial(_mapping, converter))
    return converter


_CONVERTER = exact_converter()
