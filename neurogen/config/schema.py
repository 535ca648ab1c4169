"""What the config takes at a key, read off the dataclasses, and the lines that refuse what it does not take.

in:  a key such as zoo.init, and the dataclass in which it stands
out: its type, what is allowed there in words, the names nearby
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import StrEnum
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

SCALARS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}
MAX_SUGGESTIONS = 3
SIMILAR = 0.75  # of difflib, from 0 to 1


def types_of(section: Any) -> dict[str, Any]:
    """The fields of a dataclass with their types; none for anything else."""
    if not is_dataclass(section):
        return {}
    types = get_type_hints(section)
    return {item.name: types[item.name] for item in fields(section)}


def alternatives(kind: Any) -> tuple[Any, ...]:
    """The types that a union joins; any other type alone. A dictionary's and a list's are their own."""
    return get_args(kind) if get_args(kind) and get_origin(kind) not in (list, dict, tuple) else (kind,)


def kind_at(key: str, section: Any) -> Any:
    """The type of a key, or of the members of the list that it ends in: only[0]. None where there is no such key."""
    kind = section
    for name in re.sub(r"\[\d+\]$", "", key).split(".") if key else ():
        kind = next((_inside(part, name) for part in alternatives(kind) if _has_keys(part)), None)
    return next(iter(get_args(_list_in(kind))), None) if key.endswith("]") else kind


def section_at(key: str, section: Any) -> Any:
    """The dataclass at a key; None where something else is there, or nothing."""
    return next((kind for kind in alternatives(kind_at(key, section)) if is_dataclass(kind)), None)


def _has_keys(kind: Any) -> bool:
    return is_dataclass(kind) or get_origin(kind) is dict


def _inside(kind: Any, name: str) -> Any:
    """The type of a field of a dataclass, or of the values of a dictionary of dataclasses."""
    if is_dataclass(kind):
        return types_of(kind).get(name)
    _, value = get_args(kind)
    return value if is_dataclass(value) else None


def takes(key: str, section: Any, wanted: type) -> bool:
    """Whether the key takes values of this type: str, list, …"""
    return any((get_origin(kind) or kind) is wanted for kind in alternatives(kind_at(key, section)))


def allowed_values(kind: Any) -> list[str]:
    """The values of the enum that this type is, or has as an alternative; empty where there is none."""
    enums = [part for part in alternatives(kind) if isinstance(part, type) and issubclass(part, StrEnum)]
    return [str(value) for enum in enums for value in enum]


def refusal(key: str, given: Any, section: Any, word: str | None = None) -> str:
    """Why the value is not what the key takes, and what is. `word` is what was typed; None: made of key and value."""
    kind = kind_at(key, section)
    word = word or f"{key}={written(given)}"
    members, inner = _list_in(kind), section_at(key, section)
    if members is not None and not isinstance(given, (list, dict, NoneType)):
        return f"{word} is no list; write {key}=[{written(given)}]"
    if inner is not None:
        return f"{word}: {key} has keys of its own: {', '.join(types_of(inner))}; write {key}.KEY=VALUE"
    allowed = allowed_values(kind)
    if allowed and not isinstance(given, (list, dict)):
        return unknown_value(word, str(given), allowed)
    expected = "one of these values: " + ", ".join(allowed) if allowed else _expected(kind, members)
    null = ", or null for none" if NoneType in alternatives(kind) else ""
    return f"{word} must be {expected}{null}"


def unknown_key(key: str, section: Any, within: str = "") -> str:
    """The line for a key that `section`, whose own key is `within`, does not have: what may be meant, what there is."""
    full, (outer, _, last) = f"{within}{key}", key.rpartition(".")
    if takes_mapping(kind_at(outer, section)):
        return _no_section(full, f"{within}{outer}", kind_at(outer, section))
    if kind_at(key, section) is not None:
        if takes_mapping(kind_at(outer.rpartition(".")[0], section)):
            return unknown_key(outer, section, within)
        return f"{full} cannot be set, since {within}{outer} is null with these choices; choose a file that sets it"
    if kind_at(outer, section) is None:
        return unknown_key(outer, section, within)
    if section_at(outer, section) is None:
        return _no_section(full, f"{within}{outer}", kind_at(outer, section))
    beside = list(types_of(section_at(outer, section)))
    prefix = f"{within}{outer}." if outer else within
    elsewhere = [] if outer else [known for known in _keys(section) if known.rpartition(".")[2] == last]
    meant = [f"{prefix}{name}" for name in elsewhere[:MAX_SUGGESTIONS] or nearest(last, beside)]
    question = f"did you mean {' or '.join(meant)}? " if meant else ""
    return f"the config has no key {full}; {question}allowed: {', '.join(beside)}"


def _no_section(key: str, outer: str, kind: Any) -> str:
    """Why nothing is found at `key` below `outer`, which is of this type and no section."""
    if takes_mapping(kind):
        return f"{outer} has no {key.rpartition('.')[2]} yet; write +{key}=VALUE to add it"
    return f"the config has no key {key}: {outer} must be {_expected(kind, _list_in(kind))}; write {outer}=VALUE"


def takes_mapping(kind: Any) -> bool:
    """Whether this type is a dictionary, or has one as an alternative."""
    return any(get_origin(part) is dict for part in alternatives(kind))


def nearest(given: str, allowed: Sequence[str]) -> list[str]:
    """The name that may be meant, if any is near."""
    return difflib.get_close_matches(given, allowed, n=1, cutoff=SIMILAR)


def unknown_value(word: str, given: str, allowed: Sequence[str]) -> str:
    """The line for a word whose value `given` is none of these."""
    question = "".join(f"did you mean {name}? " for name in nearest(given, allowed))
    return f"{word} is unknown; {question}allowed: {', '.join(allowed)}"


def written(value: Any) -> str:
    """A value as the command line has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(written, value))}]"
    return str(value)


def mismatched_key(values: Mapping[str, Any], section: Any, within: str = "") -> str:
    """The first key that has a list where a dictionary belongs, or the reverse; '' where there is none."""
    for name, value in values.items():
        key = f"{within}{name}"
        kind = kind_at(key, section)
        if kind is None:
            continue
        if isinstance(value, (list, dict)) and isinstance(value, list) != (_list_in(kind) is not None):
            return key
        inner = mismatched_key(value, section, f"{key}.") if isinstance(value, dict) else ""
        if inner:
            return inner
    return ""


def _list_in(kind: Any) -> Any:
    """The list that this type is, or has as an alternative; None where there is none."""
    return next((part for part in alternatives(kind) if get_origin(part) is list), None)


def _expected(kind: Any, members: Any) -> str:
    if members is not None:
        (member,) = get_args(members)
        return f"a list of {PLURALS.get(member) or ', '.join(allowed_values(member))}, in brackets: [A,B]"
    names = [SCALARS[part] for part in alternatives(kind) if part in SCALARS]
    return names[0] if names else "keys with values: {KEY: VALUE}"


def _keys(section: Any, within: str = "") -> Iterator[str]:
    """All keys of a dataclass and of those in it."""
    for name in types_of(section):
        yield f"{within}{name}"
        yield from _keys(section_at(name, section), f"{within}{name}.")
