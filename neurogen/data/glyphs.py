"""Thousands of classes to learn from: Chinese and Japanese characters, written by a shaky hand.

in:  dataset.glyphs, and the strokes of KanjiVG (the package kanjivg)
out: RawSplits of grey pictures of 28×28 pixels; a class is called by its character

Characters that look like a digit or a Latin letter are left out, so that those can be shown as classes never seen. A
picture depends on the seed, its character and its number alone. All are written once, into NEUROGEN_CACHE, and never
shipped: KanjiVG is under CC BY-SA.
"""

from __future__ import annotations

import hashlib
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neurogen import store
from neurogen.cache import cache_folder
from neurogen.config import DatasetConfig, GlyphsConfig
from neurogen.data.images import resized
from neurogen.data.raw import Labelled, RawSplits, split_off_test
from neurogen.data.strokes import Stroke, kanjivg, read_strokes, written
from neurogen.errors import UserError, one_line
from neurogen.progress import when_slow
from neurogen.rng import seed_of

VERSION = 2  # raise it when the same settings give other pictures
SCRIPTS = ("CJK UNIFIED IDEOGRAPH", "HIRAGANA LETTER", "KATAKANA LETTER")
SHARES_OF_RUNS = (0.06, 0.24, 0.3, 0.25, 0.15)  # of one stroke, of two, … among the parts of characters
# what may be taken for a digit, a Latin letter or the same sign of another script, also where it is written carelessly
LOOK_ALIKES = frozenset(
    "丨亅丿乙乚一二三口〇工十丁了人入八几卜冂凵匚匸卩厂丫廾彡己已巳日曰目月円只呂王土士干千山川彐旨弓之七九丸乃力刀"
    "夕才下上卍彳耂乂弋戈匕つてくへしそるろらりうえのひもさちよとこきレノフメトハヒロワコユヨエニミクケタヲリルヘナチソ"
    "インシツカヌスマアネヺヷドグブプべぺベペ刂阝忄扌犭"
)


def glyphs(config: DatasetConfig) -> RawSplits:
    """So many characters and parts of them as dataset.glyphs says, a fifth of each one's pictures for test.

    Raises UserError where the package is missing or has fewer characters, or the pictures cannot be kept.
    """
    options = options_of(config)
    return pictures_of(lambda: _classes(options), repr(options), config)


def options_of(config: DatasetConfig) -> GlyphsConfig:
    """Raises UserError where there are none."""
    if config.glyphs is None:
        raise UserError(
            f"dataset {config.name}: dataset.glyphs is null; begin with dataset={config.load}, which has it"
        )
    return config.glyphs


def pictures_of(classes: Callable[[], dict[str, list[Stroke]]], described: str, config: DatasetConfig) -> RawSplits:
    """Pictures of classes that `described` tells from all others; they are written where they are not yet.

    Raises UserError where they cannot be kept or read.
    """
    options = options_of(config)
    path = cache_folder() / "glyphs" / f"{_digest(described)}.npz"
    if not path.exists():
        _write(path, classes(), options)
    try:
        with np.load(path) as kept:
            names, pictures = kept["names"].tolist(), kept["pictures"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({one_line(error)}); delete it, and it is made again") from error
    labels = np.repeat(np.arange(len(names)), options.samples_per_class)
    return split_off_test(Labelled.of(resized(pictures[:, None], config.resize), labels), tuple(names))


def _digest(described: str) -> str:
    return hashlib.sha256(f"({VERSION}, {kanjivg().version!r}, {described})".encode()).hexdigest()[:16]


def _classes(options: GlyphsConfig) -> dict[str, list[Stroke]]:
    """The strokes of all characters and parts of them."""
    characters = {name: read_strokes(file) for name, file in _characters(options)}
    return characters | _parts(characters, options)


def _write(path: Path, classes: dict[str, list[Stroke]], options: GlyphsConfig) -> None:
    """Write the pictures of all classes into a file."""
    pictures: list[NDArray[np.uint8]] = []
    names: list[str] = []
    for name, strokes in when_slow(list(classes.items()), "writing glyphs", "classes"):
        rng = np.random.default_rng([options.seed, *map(ord, name)])
        pictures += [written(strokes, rng) for _ in range(options.samples_per_class)]
        names.append(name)
    try:
        store.write_file(path, lambda temporary: np.savez(temporary, names=names, pictures=pictures))
    except UserError as error:
        raise UserError(
            f"the pictures of glyphs cannot be kept ({one_line(error.__cause__ or error)}); set NEUROGEN_CACHE=FOLDER "
            "to a folder that can be written"
        ) from error


def _characters(options: GlyphsConfig) -> list[tuple[str, Path]]:
    """The characters with their files: the first ones in an order that no setting changes."""
    in_order = sorted(_usable(), key=lambda item: seed_of("order of glyphs", item[0]))
    kept: list[tuple[str, Path]] = []
    for name, file in in_order:
        if file.read_text(encoding="utf-8").count("<path ") <= options.max_strokes:
            kept.append((name, file))
        if len(kept) == options.num_classes:
            return kept
    raise UserError(
        f"dataset.glyphs.num_classes={options.num_classes:,} is more than the {len(kept):,} characters of at most "
        f"dataset.glyphs.max_strokes={options.max_strokes}; lower the former, or raise the latter"
    )


def _parts(characters: dict[str, list[Stroke]], options: GlyphsConfig) -> dict[str, list[Stroke]]:
    """Runs of strokes of characters as classes of their own, called by the character and the run."""
    long = [name for name, strokes in characters.items() if len(strokes) >= len(SHARES_OF_RUNS)]
    if options.num_parts and not long:
        raise UserError(
            f"dataset.glyphs.num_parts={options.num_parts} cuts characters of {len(SHARES_OF_RUNS)} strokes or more, "
            "and there are none; raise dataset.glyphs.max_strokes"
        )
    parts: dict[str, list[Stroke]] = {}
    rng = np.random.default_rng([options.seed, len(long)])
    most = sum(len(characters[name]) - length + 1 for name in long for length in range(1, len(SHARES_OF_RUNS) + 1))
    if options.num_parts > most // 2:
        raise UserError(
            f"dataset.glyphs.num_parts={options.num_parts:,} is more than half of the {most:,} runs of strokes that "
            f"{len(long):,} characters have; lower it, or raise dataset.glyphs.num_classes"
        )
    while len(parts) < options.num_parts:
        name = long[rng.integers(len(long))]
        length = int(rng.choice(len(SHARES_OF_RUNS), p=SHARES_OF_RUNS)) + 1
        first = int(rng.integers(len(characters[name]) - length + 1))
        parts[f"{name}[{first}:{first + length}]"] = characters[name][first : first + length]
    return parts


def _usable() -> Iterator[tuple[str, Path]]:
    """All characters that no other and no digit or letter looks like."""
    for file in Path(str(kanjivg().locate_file("kanji"))).glob("?????.svg"):
        name = chr(int(file.stem, 16))
        called = unicodedata.name(name, "")
        if called.startswith(SCRIPTS) and " SMALL " not in called and name not in LOOK_ALIKES:
            yield name, file
