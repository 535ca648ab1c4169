"""The pictures of a folder, with their classes and splits, before any of them is read.

    PATH/CLASS/*.png                             one set of pictures, of which a part becomes test data later
    PATH/train/CLASS/*.png, PATH/test/CLASS/…    splits; PATH/val/CLASS/… is validation data
    PATH/CLASS/*.png, PATH/test/CLASS/…          train is all but the other splits

in:  PATH
out: paths and labels of every split, in the order in which they are read; notes on what is not read

A folder called train, val or test is a split where its sub-folders have pictures; otherwise it is a class of that name.
Pictures in sub-folders of a class belong to the class. Names are compared as they are written: where two names of one
class differ in case or in how accents are stored, both are named and nothing is guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neurogen.data.folder_tree import PICTURE_SUFFIXES, FolderTree, Reason, read_tree
from neurogen.data.splits import SplitName, split_named
from neurogen.errors import UserError, some_of

LOOSE_PICTURES = ("picture beside the class folders", "pictures beside the class folders")
MOST_NAMED = 5  # folders, in a line
NO_SIGNS = ("Cc", "Cs")  # Unicode's categories of line breaks and of bytes that are not UTF-8
LIKE_A_SPLIT = re.compile("train|test|val", re.IGNORECASE)


@dataclass(frozen=True)
class PictureFiles:
    """The pictures of a split, and the number of each one's class."""

    paths: tuple[str, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class PictureFolder:
    """What a folder of pictures holds; `splits` always has train."""

    class_names: tuple[str, ...]
    splits: Mapping[SplitName, PictureFiles]
    notes: tuple[str, ...]  # what is not read

    def files(self) -> list[str]:
        """All pictures that are read, in order."""
        return [path for split in self.splits.values() for path in split.paths]


def list_pictures(path: str | Path | None, key: str = "dataset.path") -> PictureFolder:
    """The pictures of a dataset; `key` is where the user gave its path.

    Raises UserError where there are no folder, no classes or no pictures; where two folders are the same split; where a
    split has a class that train lacks; and where a folder can be read in two ways.
    """
    if path is None or not Path(path).is_dir():
        raise UserError(f"{key}={path} is no folder; give PATH with PATH/CLASS/*.png inside")
    tree = read_tree(path)
    splits = _splits(tree)
    beside = [folder for folder in tree.folders if folder not in splits.values()]
    left_out: Counter[Reason] = Counter()
    if SplitName.TRAIN in splits:
        _refuse_classes_beside(splits, beside)
        left_out = _left_out_beside(tree, splits[SplitName.TRAIN], beside)
    else:
        splits[SplitName.TRAIN] = replace(tree, items=(*tree.own_pictures, *beside))
    train = splits[SplitName.TRAIN]
    _refuse_other_layouts(train, key)
    class_names = tuple(sorted(folder.name for folder in train.folders))
    for split in splits.values():
        left_out += split.left_out_below() + Counter({LOOSE_PICTURES: len(split.own_pictures)})
        _refuse_unknown(split, class_names, f"{train.path} has no such class")
    notes = _notes(left_out)
    if not train.has_pictures:
        raise _without_pictures(train.path, class_names, notes)
    in_order = {name: _files(splits[name], class_names) for name in SplitName if name in splits}
    return PictureFolder(class_names, in_order, notes)


def list_labelled(path: Path, class_names: Sequence[str]) -> tuple[PictureFiles, tuple[str, ...]]:
    """(the pictures in PATH/CLASS/* for classes that are known already, notes on what is not read).

    Raises UserError where there are no pictures, and where there are other classes.
    """
    if not path.is_dir():
        raise UserError(f"{path} is no folder; give PATH with PATH/CLASS/*.png inside")
    tree = read_tree(path)
    unknown = {folder.name for folder in tree.folders} - set(class_names)
    inside = [folder.path for folder in _splits(tree).values() if folder.name in unknown]
    if inside:
        raise UserError(f"{path} has folders of splits; give one of them: {' or '.join(sorted(inside))}")
    _refuse_unknown(tree, class_names, f"the classes are {_some(class_names)}")
    notes = _notes(tree.left_out_below() + Counter({LOOSE_PICTURES: len(tree.own_pictures)}))
    files = _files(tree, class_names)
    if not files.paths:
        raise _without_pictures(tree.path, class_names, notes)
    return files, notes


def _splits(tree: FolderTree) -> dict[SplitName, FolderTree]:
    """The sub-folders that are splits. Raises UserError where two are the same one."""
    splits: dict[SplitName, FolderTree] = {}
    for folder in tree.folders:
        split = split_named(folder.name)
        if split is None or not any(inside.has_pictures for inside in folder.folders):
            continue
        if split in splits:
            raise UserError(
                f"{splits[split].path} and {folder.path} are both {split} data; put their pictures into one of them"
            )
        splits[split] = folder
    return splits


def _files(split: FolderTree, class_names: Sequence[str]) -> PictureFiles:
    """The pictures of a split, class by class."""
    folders = {folder.name: folder for folder in split.folders}
    pairs = [
        (path, label) for label, name in enumerate(class_names) if name in folders for path in folders[name].pictures()
    ]
    return PictureFiles(tuple(path for path, _ in pairs), tuple(label for _, label in pairs))


def _refuse_unknown(split: FolderTree, class_names: Sequence[str], allowed: str) -> None:
    """Raises UserError for class folders with pictures whose names are no classes, and for names that are no text."""
    known = set(class_names)
    names = [folder.name for folder in split.folders if folder.has_pictures and folder.name not in known]
    by_spelling = {_spelling(name): name for name in class_names}
    for name in names:
        if meant := by_spelling.get(_spelling(name)):
            raise UserError(
                f"{split.path} has the folder {name!r} for the class {meant!r}: the names differ in case, spaces or "
                "the form of accents; give both the same name"
            )
    if names:
        raise UserError(f"{split.path} has folders of pictures called {_some(names)}; {allowed}")
    for folder in split.folders:
        if any(unicodedata.category(sign) in NO_SIGNS for sign in folder.name):
            raise UserError(f"{split.path} has a class folder called {folder.name!a}; give it a name of letters")


def _refuse_classes_beside(splits: Mapping[SplitName, FolderTree], beside: Sequence[FolderTree]) -> None:
    """Raises UserError where train/ may be a split or one of several classes with sub-folders."""
    classes = [folder.name for folder in beside if folder.has_pictures and split_named(folder.name) is None]
    if classes and len(splits) == 1:
        train = splits[SplitName.TRAIN]
        raise UserError(
            f"{train.path} has folders with pictures, and so have folders beside it ({_some(classes)}); if "
            f"{train.name} is a split, move these away; if it is a class, move its pictures out of the sub-folders"
        )


def _refuse_other_layouts(train: FolderTree, key: str) -> None:
    """Raises UserError where the folders below `train` are no classes."""
    if not train.folders:
        raise UserError(f"{train.path} has no sub-folders; make one folder per class with its pictures inside")
    for folder in train.folders:
        if len(inside := _splits_of_class(folder)) > 1:
            raise UserError(
                f"{folder.path} has the folders {_some(inside)}; put splits around classes: "
                f"{train.path}/{inside[0]}/{folder.name}"
            )
    nested = [folder for folder in train.folders if folder.has_pictures and not folder.own_pictures]
    if len(train.folders) == 1 and nested:
        raise UserError(
            f"{train.path} has one folder only, with folders inside; if they are the classes, give "
            f"{key}={nested[0].path}"
        )
    names = [folder.name for folder in nested if LIKE_A_SPLIT.search(folder.name)]
    if len(names) > 1:
        raise UserError(
            f"{train.path} has the folders {_some(names)} with folders of pictures inside; if they are splits, call "
            "them train, val and test; if they are classes, move their pictures out of the sub-folders"
        )


def _splits_of_class(folder: FolderTree) -> list[str]:
    """The names of different splits inside a class, which must not become training data together."""
    inside = {split_named(part.name): part.name for part in folder.folders if part.has_pictures}
    return [name for split, name in inside.items() if split is not None]


def _left_out_beside(tree: FolderTree, train: FolderTree, beside: Sequence[FolderTree]) -> Counter[Reason]:
    """What lies beside train/ and is not read."""
    names = f"beside {train.name} ({_some(folder.name for folder in beside)})"
    folders = Counter({(f"folder {names}", f"folders {names}"): len(beside)})
    return tree.left_out + Counter({LOOSE_PICTURES: len(tree.own_pictures)}) + folders


def _notes(left_out: Counter[Reason]) -> tuple[str, ...]:
    """At most one note, with every reason and how often it holds."""
    parts = [f"{count:,} {names[count > 1]}" for names, count in left_out.items() if count]
    return (f"left out: {', '.join(parts)}",) if parts else ()


def _without_pictures(path: str, class_names: Sequence[str], notes: Sequence[str]) -> UserError:
    about = "; ".join((*notes, f"pictures: {' '.join(sorted(PICTURE_SUFFIXES))}"))
    return UserError(f"{path} holds no pictures in folders named {_some(class_names)} ({about})")


def _spelling(name: str) -> str:
    """What two spellings of one name have in common."""
    return unicodedata.normalize("NFC", name).casefold().strip()


def _some(names: Iterable[str]) -> str:
    """The first few names."""
    return some_of(sorted(names), MOST_NAMED)
