"""A text dataset of the Hugging Face Hub as files, in the Hub's cache or in a folder of the user's.

in:  the config of a dataset whose path is OWNER/NAME, or a folder
out: the folder of the files that `datasets` reads for it, which it then reads like any folder of the user's; the files
     in such a folder

All splits of its default config are brought, also one that is not read: `datasets` refuses a folder without a split
that the description lists.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from neurogen.config import DatasetConfig
from neurogen.downloads.hub import HubSource, NotOnHub, Part, Reader
from neurogen.downloads.network import cause_of, is_offline
from neurogen.downloads.repository import Repository, RepositoryKind
from neurogen.errors import UserError, one_line

DESCRIPTIONS = ("README.md", "dataset_infos.json")  # they may name splits and classes


def repository_of(config: DatasetConfig) -> Repository | None:
    """The repository that a dataset is read from; None where it is read from elsewhere."""
    if config.load != "hub_text" or config.path is None or Path(config.path).exists():
        return None
    return Repository(RepositoryKind.dataset, config.path)


def part_of(config: DatasetConfig, repository: Repository) -> Part:
    """The files that `datasets` reads."""
    return Part(repository, "dataset", _choose, partial(_not_found, config))


def folder_of(config: DatasetConfig) -> Path | None:
    """The folder to read from; None where only `datasets` has the data, prepared in its own cache by an earlier run.

    Raises UserError where there is neither, and no way to the Hub.
    """
    repository = repository_of(config)
    if repository is None:
        return Path(config.path or "")
    try:
        return HubSource(part_of(config, repository)).folder()
    except NotOnHub:
        if is_prepared(repository):
            return None
        raise


def is_prepared(repository: Repository) -> bool:
    """Whether `datasets` has the data in its own cache, where nothing may be downloaded."""
    from datasets import config

    return is_offline() and (Path(config.HF_DATASETS_CACHE) / repository.name.replace("/", "___")).is_dir()


def _choose(names: Sequence[str], read: Reader) -> list[str]:
    """What `datasets` would read of a repository with files of these names: it is asked with empty ones."""
    described = [name for name in DESCRIPTIONS if name in names]
    with TemporaryDirectory() as place:
        folder = Path(place).resolve()
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(read(name).read_bytes() if name in described else b"")
        try:
            chosen = [name for files in files_by_split(folder).values() for name in files]
        except NotOfTheHub as error:
            raise UserError(f"`datasets` makes nothing of its files ({one_line(error)})") from error
    return [*described, *chosen]


def hub_files(config: DatasetConfig) -> list[Path]:
    """The files in the folder dataset.path that `datasets` reads for the splits of `hub_text`, and their description.

    Raises UserError where it makes nothing of the folder.
    """
    assert config.text is not None  # the config was validated
    folder = Path(config.path or "")
    try:
        names = files_by_split(folder)
    except NotOfTheHub as error:
        raise UserError(f"dataset.path={folder} is no folder of the hub's files ({one_line(error)})") from error
    splits = dict.fromkeys(("train", "validation", config.text.test_split))
    descriptions = (folder / name for name in DESCRIPTIONS)
    return [folder / name for split in splits for name in names.get(split, ())] + [
        path for path in descriptions if path.is_file()
    ]


class NotOfTheHub(Exception):
    """A folder of which `datasets` makes no dataset. The message says why."""


def files_by_split(folder: Path) -> dict[str, list[str]]:
    """The files that `datasets` reads for every split, by their names in the folder. Raises NotOfTheHub."""
    from datasets import load_dataset_builder
    from datasets.exceptions import DatasetsError

    try:
        with TemporaryDirectory() as cache:
            data_files = load_dataset_builder(str(folder), cache_dir=cache).config.data_files or {}
    except (OSError, ValueError, DatasetsError) as error:
        raise NotOfTheHub(one_line(error)) from error
    whole = folder.resolve()
    return {split: [os.path.relpath(file, whole) for file in files] for split, files in data_files.items()}


def _not_found(config: DatasetConfig, error: BaseException) -> str:
    """What to do about a dataset that could not be had from the Hub because of `error`."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    name = f"dataset {config.name}: {config.path}"
    if isinstance(error, HFValidationError):
        return f"dataset.path={config.path} is no folder here, and no name on the hub, OWNER/NAME"
    if isinstance(error, GatedRepoError):
        return (
            f"{name} is gated: ask for access at https://huggingface.co/datasets/{config.path}, then log in with "
            "`hf auth login` (or set HF_TOKEN) and run again"
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{name} is not on the hub, or private: check dataset.path=OWNER/NAME, or log in with `hf auth login` (or "
            "set HF_TOKEN)"
        )
    hint = ""
    if isinstance(error, OfflineModeIsEnabled):
        command = f"neurogen fetch dataset=sst2 dataset.path={config.path} backbone=tiny_llama"
        hint = f"run `{command}` where there is a network, "
    return (
        f"{name} is neither in the cache nor to be had from the hub ({cause_of(error, constants.ENDPOINT)}); {hint}"
        "give a folder with its parquet files as dataset.path=FOLDER, or use an offline dataset: rotten_tomatoes"
    )
