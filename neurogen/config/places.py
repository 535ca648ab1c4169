"""What is given as a name, and what as a place: a folder, a file, a repository of a hub."""

from __future__ import annotations

import re

from neurogen.config.experiment import Experiment
from neurogen.errors import UserError

WRITTEN = ("glyphs", "kanji")  # loaders that write characters
INSIDE_PACKAGES = ("digits", "mnist5k", "rotten_tomatoes")  # loaders of data that come in a package


def check_names(e: Experiment) -> None:
    """Names become parts of folders' names. Raises UserError."""
    names = {
        "dataset.name": e.dataset.name,
        "target.name": e.target.name,
        "source.name": e.source.name if e.source else None,
        "backbone.name": e.backbone.name,
        "recipe.name": e.recipe.name,
        "name": e.name,  # by default made of those above
        "study_name": e.study_name,
    }
    for key, name in names.items():
        if name is not None and not re.fullmatch(r"[\w-]+", name):
            raise UserError(f"{key}={name} becomes part of a folder's name; use letters, digits, _ and -")


def check_places(e: Experiment) -> None:
    """Places are given in full: an empty name would be the folder one stands in. Parts of a pool have their own.

    Raises UserError.
    """
    dataset = e.dataset
    parts = {f"dataset.parts.{index}.path": part.path for index, part in enumerate(dataset.parts)}
    places = {"root": e.root, "dataset.path": dataset.path, **parts, "backbone.model": e.backbone.model}
    for key, place in places.items():
        if place is not None and not place.strip():
            raise UserError(f"{key}= is empty; give a name, or . for the folder you are in")
        if place is not None and (place == "~" or place.startswith("~/")):
            raise UserError(f"{key}={place}: ~ is not expanded here; give the whole path, as in {key}=$HOME/…")
    if dataset.parts and dataset.path is not None:
        raise UserError(
            f"dataset.path={dataset.path} is one place, and dataset {dataset.name} joins "
            f"{', '.join(part.name for part in dataset.parts)}; give the place of each that is elsewhere: "
            f"{' '.join(f'{key}=FOLDER' for key in parts)}"
        )
