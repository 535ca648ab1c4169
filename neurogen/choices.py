"""What conf/ offers: its folders of choices, and what classes may be called.

in:  the files of conf/, beside this package or inside it
out: names of files; what a config asks for as ${NAME:…}: names of classes, epochs and steps that suit a dataset, one of
     several
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

NAMES = "names"  # the folder that is no choice
KANJI = "kanji"  # the dataset whose names are in a dictionary
CHOSEN_FOR = 4000  # training samples of the dataset by which epochs were chosen


def conf_folder() -> str:
    """conf/ inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "conf"
    return str(installed if installed.is_dir() else package.parent / "conf")


def groups() -> dict[str, list[str]]:
    """The folders of conf/, of which an experiment takes a file each, with the names of their files."""
    folders = (path for path in Path(conf_folder()).iterdir() if path.is_dir() and path.name != NAMES)
    return {folder.name: sorted(path.stem for path in folder.glob("*.yaml")) for folder in folders}


def names_of(dataset: str, glyphs: Mapping[str, Any] | None, ways: Sequence[int] | None) -> dict[str, Any]:
    """The names of the classes where contexts list so many of them by name (`ways`): those in conf/names/DATASET.yaml
    and in the files of its list `same_as`, {} for none. Those of kanji are their meanings, of as many characters as
    `glyphs` says."""
    from omegaconf import OmegaConf

    if ways is None:
        return {}
    if dataset == KANJI and glyphs is not None:
        from neurogen.meanings import characters_with_meanings

        return characters_with_meanings(glyphs)
    files = {path.stem: path for path in Path(conf_folder(), NAMES).glob("*.yaml")}
    if dataset not in files:
        return {}
    names: Any = OmegaConf.to_container(OmegaConf.load(files[dataset]))
    shared = [names_of(other, None, ways) for other in names.pop("same_as", [])]
    return {name: options for part in (*shared, names) for name, options in part.items()}


def epochs_of(epochs: int, size: Mapping[str, Any] | None, limit: int | None) -> int:
    """So many epochs for up to CHOSEN_FOR training samples, and fewer for more: updates grow with their square root.

    `size` is None for a dataset that does not say how large it is."""
    return math.ceil(epochs / math.sqrt(_times_as_many(size, limit)))


def steps_of(steps: int, size: Mapping[str, Any] | None, limit: int | None) -> int:
    """So many steps of stage 1 for up to CHOSEN_FOR training samples, and more for more. The networks of a zoo walk
    away from their start with the square root of their updates (`epochs_of`), and stage 1 has to follow them."""
    return round(steps * math.sqrt(math.sqrt(_times_as_many(size, limit))))


def _times_as_many(size: Mapping[str, Any] | None, limit: int | None) -> float:
    """How many times CHOSEN_FOR training samples there are, at least 1."""
    num_samples = min(CHOSEN_FOR if size is None else size["num_train"], limit or math.inf)
    return max(1.0, num_samples / CHOSEN_FOR)


def choose(key: str, options: Mapping[str, Any]) -> Any:
    """The option of this name; where there is none, that of the name "other"."""
    return options[key if key in options else "other"]


# What conf/ calls as ${NAME:…}.
RESOLVERS: dict[str, Callable[..., Any]] = {
    "choose": choose,
    "names_of": names_of,
    "epochs_of": epochs_of,
    "steps_of": steps_of,
}
