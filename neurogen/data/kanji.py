"""Japanese characters that can be called by what they mean (meanings.py), written by a shaky hand.

in:  dataset.glyphs, the strokes of KanjiVG (the package kanjivg), KanjiDic2 (the package jamdict-data)
out: RawSplits of grey pictures of 28×28 pixels, as those of glyphs.py; a class is called by its character
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from neurogen.config import DatasetConfig
from neurogen.data.glyphs import options_of, pictures_of
from neurogen.data.raw import RawSplits
from neurogen.data.strokes import kanjivg, read_strokes
from neurogen.meanings import characters_with_meanings


def kanji(config: DatasetConfig) -> RawSplits:
    """So many characters as dataset.glyphs says, the most frequent first, a fifth of each one's pictures for test.

    Raises UserError where a package is missing or has fewer of them, or the pictures cannot be kept.
    """
    options = options_of(config)
    folder = Path(str(kanjivg().locate_file("kanji")))
    files = {character: folder / f"{ord(character):05x}.svg" for character in characters_with_meanings(asdict(options))}
    described = repr((options, list(files)))
    return pictures_of(lambda: {name: read_strokes(file) for name, file in files.items()}, described, config)
