"""What Japanese characters mean: names for classes that are characters, by the thousand.

in:  KanjiDic2 (the package jamdict-data), the strokes of KanjiVG (the package kanjivg), dataset.glyphs
out: {CHARACTER: {train: […], validation: […], test: […]}}, the most frequent characters first

Characters share meanings. One belongs to the most frequent of the characters that have it, so that a name says which
class is meant. Names for validation and test are English. Training reads the other English ones, and the French,
Spanish and Portuguese ones. More classes leave the names of the others as they are.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from neurogen.errors import UserError, one_line

PACKAGES = {"strokes": "kanjivg", "meanings": "jamdict-data"}  # of characters
DATABASE = "jamdict_data/jamdict.db"  # in the package
FEWEST_ENGLISH, FEWEST = 2, 3  # names of a character
SHARE_HELD_OUT = 4  # every fourth English name is for the test, and as many are for validation
ENGLISH = ""
HOW_IT_IS_USED = re.compile(r"counter for|radical|kokuji|\(no\.", re.IGNORECASE)  # and not what it means
MEANINGS = """
    SELECT literal, stroke_count, value, m_lang
    FROM character JOIN rm_group ON cid = character.ID JOIN meaning ON gid = rm_group.ID
    ORDER BY freq IS NULL, CAST(freq AS INTEGER), literal, meaning.rowid
"""


def characters_with_meanings(glyphs: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """The names of `num_classes` characters of at most `max_strokes` strokes.

    Raises UserError where a package is missing or broken, or there are fewer such characters.
    """
    chosen: dict[str, dict[str, list[str]]] = {}
    taken: set[str] = set()
    for character, meanings in _meanings(glyphs["max_strokes"]).items():
        names = [(meaning, is_english) for meaning, is_english in meanings if meaning.casefold() not in taken]
        english = [name for name, is_english in names if is_english]
        if len(english) < FEWEST_ENGLISH or len(names) < FEWEST:
            continue
        taken |= {name.casefold() for name, _ in names}
        english.sort(key=lambda name: hashlib.sha256(f"{character} {name}".encode()).digest())
        held_out = max(1, len(english) // SHARE_HELD_OUT)
        test, validation = english[:held_out], english[held_out : 2 * held_out]
        train = [name for name, _ in names if name not in (*test, *validation)]
        chosen[character] = {"train": train, "validation": validation, "test": test}
        if len(chosen) == glyphs["num_classes"]:
            return chosen
    raise UserError(
        f"dataset.glyphs.num_classes={glyphs['num_classes']:,} is more than the {len(chosen):,} characters of at most "
        f"dataset.glyphs.max_strokes={glyphs['max_strokes']} with {FEWEST} meanings of their own; lower the former"
    )


def dictionary() -> Distribution:
    """The package of KanjiDic2, whose version tells its content. Raises UserError where it is missing."""
    return _package("meanings")


def _package(what: str) -> Distribution:
    try:
        return distribution(PACKAGES[what])
    except PackageNotFoundError as error:
        raise UserError(
            f"the {what} of characters are in the package {PACKAGES[what]}; pip install 'neurogen[kanji]'"
        ) from error


def _meanings(max_strokes: int) -> dict[str, list[tuple[str, bool]]]:
    """Characters that can be written, with their meanings, each once, and whether these are English."""
    strokes, file = _package("strokes"), Path(str(dictionary().locate_file(DATABASE)))
    drawn = frozenset(path.name for path in strokes.files or [] if path.suffix == ".svg")
    return _meanings_of(drawn, file, max_strokes)


@cache
def _meanings_of(drawn: frozenset[str], file: Path, max_strokes: int) -> dict[str, list[tuple[str, bool]]]:
    by_character: dict[str, dict[str, tuple[str, bool]]] = {}
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            for character, strokes, meaning, language in database.execute(MEANINGS):
                is_usable = strokes <= max_strokes and f"{ord(character):05x}.svg" in drawn
                if is_usable and not HOW_IT_IS_USED.search(meaning):
                    names = by_character.setdefault(character, {})
                    names.setdefault(meaning.casefold(), (meaning, language == ENGLISH))
    except sqlite3.Error as error:
        raise UserError(f"{file} cannot be read ({one_line(error)}); install the package jamdict-data again") from error
    return {character: list(names.values()) for character, names in by_character.items()}
