"""The identity of data before it is loaded. It is a part of the hash of every step that reads the data.

in:  the config of a dataset, or of a language model
out: a short text that is another one when the files are, wherever they lie and however old they are

Files count with their content and, inside a folder, with their names. Where a loader of our own chooses among the files
of a folder, only those that it reads count; for a user's own loader all files below dataset.path do.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from neurogen.config import DatasetConfig, ModelConfig, TargetConfig
from neurogen.config.places import INSIDE_PACKAGES, WRITTEN
from neurogen.data.corpus_files import CORPORA, PACKAGED, corpus_files, corpus_of, is_absent
from neurogen.data.folder_tree import RESULTS
from neurogen.data.folders import list_pictures
from neurogen.data.published_files import PUBLISHED, published_digest
from neurogen.data.tables import files_read
from neurogen.digests import digests
from neurogen.errors import UserError
from neurogen.meanings import dictionary
from neurogen.source import source_digest
from neurogen.store import ROOT_MARKER

LITTER = {".DS_Store", "Thumbs.db", "desktop.ini", "__pycache__", "__MACOSX", ".ipynb_checkpoints", ".git"}
Listing = Callable[[DatasetConfig], Sequence[Path]]


def identity(config: DatasetConfig) -> str:
    """The identity of a dataset: its name, and a digest of the files that its loader reads and of the loader's source.

    The name alone stands for published data. Raises UserError where dataset.path does not exist, and for a loader
    without source.
    """
    loaders = dict.fromkeys([config.load, *(part.load for part in config.parts)])
    sources = [] if config.version is not None else [source_digest("dataset.load", load) for load in loaders]
    return joined(config.name, files_digest(config), *sources)


def identity_of_target(config: TargetConfig) -> str | None:
    """The digest of the source of a user's own builder; None for what its name or its version tells.

    Raises UserError where there is no source.
    """
    return None if config.version is not None else source_digest("target.build", config.build)


def identity_of_model(config: ModelConfig) -> str | None:
    """The digest of the files of a model in a folder of the user's; None for a model that its name tells."""
    if config.random_seed is not None or not config.model or not Path(config.model).is_dir():
        return None
    names = [name for name in all_files(config.model) if not name.endswith((".md", ".py"))]
    return content_digest(Path(config.model), names)


def require_same_identity(what: str, planned: str | None, present: str | None) -> None:
    """Raises UserError where `what` is not what it was when the identity of the result was computed."""
    if planned != present:
        raise UserError(
            f"{what} has changed since this was planned (its files or its code); nothing was stored for it; run the "
            "same command again for a result of what it is now"
        )


def require_same_code(target: TargetConfig, recorded: str | None) -> None:
    """Raises UserError where the code of a trained target is no longer that of which `recorded` is the identity."""
    if identity_of_target(target) != recorded:
        raise UserError(
            f"this was trained with the target {target.build}, whose code has changed since; restore the code, or "
            "train anew"
        )


def files_digest(config: DatasetConfig) -> str | None:
    """The digest of the files that the loader of a dataset reads; None where its name tells what they are."""
    if config.parts:
        return joined(*map(files_digest, config.members)) or None
    if config.load in PUBLISHED:
        return published_digest(config)
    if config.load in WRITTEN:
        from neurogen.data.strokes import kanjivg

        return joined(kanjivg().version, dictionary().version if config.load == "kanji" else None)
    if config.load in CORPORA:
        return _digest_of_corpus(config)
    if config.load in INSIDE_PACKAGES or (config.path is None and config.load != "arrays"):
        return None
    if config.path is None:
        raise UserError("dataset.path=null: give the file of stored arrays, root/data/DIGEST.safetensors")
    folder = Path(config.path)
    if not folder.exists():
        if config.load == "hub_text" and re.fullmatch(r"[\w.-]+/[\w.-]+", config.path):
            return config.path
        raise UserError(f"dataset.path={config.path} does not exist; give the folder (or file) with your data")
    return content_digest(folder, names_read(config) if folder.is_dir() else [])


def _digest_of_corpus(config: DatasetConfig) -> str | None:
    """The digest of its files; None where they are those of the package, or not there yet."""
    corpus = corpus_of(config)
    if is_absent(config):
        return None
    train, test = corpus_files(config).values()
    digest = content_digest(train.parent, [train.name, test.name])
    return None if digest == PACKAGED[corpus] else digest


def content_digest(path: Path, names: Sequence[str]) -> str:
    """16 hexadecimal digits over names and content of files in a folder, or over a file alone with its ending."""
    if path.is_dir():
        contents = zip(names, digests(path, names), strict=True)
    else:
        contents = zip([path.suffix.lower()], digests(path, [""]), strict=True)
    listed = "".join(f"{name}\0{content}\n" for name, content in contents)
    return hashlib.sha256(os.fsencode(listed)).hexdigest()[:16]


def names_read(config: DatasetConfig) -> list[str]:
    """The files that the loader reads, by their names below the folder dataset.path, in a fixed order."""
    root = config.path or ""
    if config.load == "image_folder":
        start = len(os.path.join(root, ""))  # os.path.relpath takes half a second for 100,000
        return [path[start:] for path in list_pictures(root).files()]
    if config.load in ("text_table", "hub_text"):
        return [os.path.relpath(path, root) for path in files_read(config)]
    return list(all_files(root))


def all_files(folder: str, prefix: str = "", outer: frozenset[tuple[int, int]] = frozenset()) -> Iterator[str]:
    """PREFIX/NAME of all files below a folder, links followed, in a fixed order; `outer` are the folders around it.

    Left out are what systems and editors leave behind, and the results of this program.
    """
    status = os.stat(folder)
    identifier = status.st_dev, status.st_ino
    with os.scandir(folder) as entries:
        inside = sorted((entry.name, entry.is_dir(), entry.is_file()) for entry in entries)
    is_root = (ROOT_MARKER, False, True) in inside
    if identifier in outer or (is_root and outer):  # a link back up, or a root inside the data
        return
    left_out = LITTER | RESULTS if is_root else LITTER
    for name, is_folder, is_file in inside:
        if name in left_out or name.startswith("._") or name == ROOT_MARKER:
            continue
        if is_folder:
            yield from all_files(f"{folder}/{name}", f"{prefix}{name}/", outer | {identifier})
        elif is_file:
            yield prefix + name


def joined(*parts: str | None) -> str:
    """NAME-DIGEST-DIGEST, without those that are None."""
    return "-".join(part for part in parts if part is not None)
