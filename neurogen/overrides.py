"""The words that set keys, KEY=VALUE, as Hydra's grammar reads them: which it cannot read, or reads as something else.

in:  the words of a command line, of a study's file, or of a list in Python
out: nothing, or UserError: the word that was given, and how to type what was meant

Hydra takes a value in quotes as it stands. Without quotes ( ) [ ] { } : = , ' " and all that is not ASCII have a
meaning or none at all, blanks at the ends are cut off, and 1e3, true and null are no texts.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from neurogen.config import Experiment
from neurogen.config.schema import alternatives, kind_at, refusal, takes, takes_mapping, unknown_value
from neurogen.errors import UserError

MAY_BE_NULL = ("preset", "target@source", "fit", "study")  # groups of conf/ whose file may be left out
CHOOSERS = {"point", "variant"}  # of a study; several values choose several
ESCAPED_IN_SHELL = set('"$`\\!')  # inside double quotes
PLAIN = r"[a-zA-Z0-9_ ,:/\\.+$%*@?|-]"  # signs that Hydra reads without quotes
PLAIN_IN_SHELL = r"[\w@%+=:,./-]+"

Groups = Mapping[str, Sequence[str]]  # folders of conf/ → the names of the files in them
Typed = Callable[[str], str]  # a word → how it is typed where the user types


def for_shell(word: str) -> str:
    """The word as a shell takes it, in double quotes where they are enough."""
    if re.fullmatch(PLAIN_IN_SHELL, word):
        return word
    if set("!$`") & set(word) or ("'" not in word and ESCAPED_IN_SHELL & set(word)):
        return shlex.quote(word)
    return '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'


def in_quotes(value: str) -> str:
    """The text as a value of Hydra, whatever characters it has."""
    escaped = re.sub(r"(\\*)\$\{", lambda match: f"{2 * match[1]}\\${{", value)
    has_double, has_single = bool(ESCAPED_IN_SHELL & set(value)), "'" in value
    mark = Quote.double if has_double != has_single and not ('"' in value and has_single) else Quote.single
    return QuotedString(escaped, mark).with_quotes()


def require_readable(words: Sequence[str], groups: Groups, is_sweep: bool, typed: Typed = for_shell) -> None:
    """Raises UserError for the first word that Hydra cannot read, or would read as something else.

    `typed` says how the advised word is typed.
    """
    for word in words:
        key, equals, value = word.lstrip("+~").partition("=")
        if not equals and not word.startswith("~"):
            raise UserError(f"{typed(word)} sets nothing; write KEY=VALUE, without blanks around the =")
        _require_key(word, key)
        try:
            override = OverridesParser.create().parse_override(word)
        except HydraException as error:
            raise UserError(_unreadable(word, key, value, is_sweep, typed)) from error
        if word.startswith("~"):
            _require_removable(word, key)
        elif override.is_sweep_override():
            _require_sweep(word, key, value, is_sweep, typed)
        elif key in groups:
            _require_choice(word, key, override, groups[key])
        else:
            _require_as_written(word, key, value, override, typed)


def _require_key(word: str, key: str) -> None:
    if key != key.strip():
        raise UserError(f"{word} has blanks before its =; write {word.replace(key, key.strip(), 1)}")
    try:
        OverridesParser.create().parse_override(f"{key or '='}=0")
    except HydraException as error:
        raise UserError(
            f"{word}: {key or 'nothing'} is no key; a key is made of names with dots between them, as in seed=1 "
            "dataset.limit=100, and a list is given as a whole: only=[tune,evaluate]"
        ) from error


def _require_removable(word: str, key: str) -> None:
    if kind_at(key, Experiment) is not None:
        raise UserError(f"{word} takes away what an experiment needs; leave it out, or set another value: {key}=VALUE")


def _require_sweep(word: str, key: str, value: str, is_sweep: bool, typed: Typed) -> None:
    """Several values are for a sweep; a text or a list with a comma is written otherwise."""
    if is_sweep or key in CHOOSERS:
        return
    advice = ["a sweep takes them: add -m"]
    if takes(key, Experiment, list):
        advice = [f"for a list write {typed(f'{key}=[{value}]')}"]
    elif takes(key, Experiment, str):
        advice.append(f"for the text itself write {typed(f'{key}={in_quotes(value)}')}")
    raise UserError(f"{word} has several values; {'; '.join(advice)}")


def _require_choice(word: str, key: str, override: Override, names_in_group: Sequence[str]) -> None:
    """A group takes the name of a file, or the keys that are to differ from the file it has."""
    value = override.value()
    if isinstance(value, list):
        names = ",".join(map(str, value))
        raise UserError(f"{word} is a list, and {key} takes one name; for a sweep write -m {key}={names}")
    if not isinstance(value, (str, dict)) and not (value is None and key in MAY_BE_NULL):
        raise UserError(unknown_value(word, str(value), names_in_group))


def _require_as_written(word: str, key: str, value: str, override: Override, typed: Typed) -> None:
    """A text must arrive as it was typed."""
    if not _is_text(key):
        return
    given, advice = override.value(), typed(f"{key}={in_quotes(value)}")
    if isinstance(given, str) and value != value.strip():
        raise UserError(f"{typed(word)} would lose the blanks at the ends of its value; to keep them write {advice}")
    for item in given if isinstance(given, list) else [given]:
        if isinstance(item, (bool, int, float)) and str(item) not in value:
            listed = typed(f"{key}={_with_quoted_items(value)}") if isinstance(given, list) else advice
            raise UserError(f"{word} would be read as {item}; for the text as it stands write {listed}")


def _is_text(key: str) -> bool:
    """Whether the key takes a text or a list of texts, and no name of an allowed value."""
    kinds = (kind_at(key, Experiment), kind_at(f"{key}[0]", Experiment))
    return any(str in alternatives(kind) for kind in kinds)


def _unreadable(word: str, key: str, value: str, is_sweep: bool, typed: Typed) -> str:
    """The line for a word whose value breaks Hydra's grammar."""
    kind = kind_at(key, Experiment)
    is_list, without = takes(key, Experiment, list) or (kind is None and value.startswith("[")), value.rstrip(",")
    if without != value and not _is_text(key) and not takes_mapping(kind):
        return f"{word} ends in a comma; write {typed(f'{key}={without}')} without it"
    if kind is not None and not (is_list or _is_text(key) or takes_mapping(kind)):
        return refusal(key, value, Experiment)
    if value == "~" or value.startswith("~/"):
        expanded = str(Path(value).expanduser())
        return f"{word}: ~ is not expanded here; write {typed(f'{key}={_with_quoted_items(expanded)}')}"
    listed, whole = typed(f"{key}={_with_quoted_items(value)}"), typed(f"{key}={in_quotes(value)}")
    if without != value and _reads(without):
        return (
            f"{word} ends in a comma; write {typed(f'{key}={without}')} without it, or for a text that has it {whole}"
        )
    signs = " ".join(dict.fromkeys(sign for sign in value if not re.fullmatch(PLAIN, sign)))
    given = f"{word} cannot be read" + (f" because of {signs}" if signs else "")
    if is_list:
        closed = value if value.startswith("[") else f"[{value}]"
        return f"{given}; a list is written {typed(f'{key}={_with_quoted_items(closed)}')}"
    if "," in value and is_sweep and listed != whole:
        return f"{given}; for several values write {listed}, for a single one with a comma {whole}"
    return f"{given}; put the value in quotes: {whole}"


def _with_quoted_items(value: str) -> str:
    """The value with quotes around each part between commas that needs them; brackets stay, and are closed."""
    is_list = value.startswith("[")
    inner = value.removeprefix("[").removesuffix("]") if is_list else value
    items = [item.strip() for item in inner.split(",") if item.strip()]
    joined = ",".join(item if _reads(item) else in_quotes(item) for item in items)
    return f"[{joined}]" if is_list else joined


def _reads(value: str) -> bool:
    """Whether Hydra reads the value as a text with these letters."""
    try:
        read = OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return False
    return not read.is_sweep_override() and str(read.value()) == value
