"""What is read of a dataset, before anything is trained on it: the command `neurogen data`.

in:  the words that `neurogen run` takes
out: samples of each class and split, what was left out; of pictures a contact sheet, of texts a few of each class

    neurogen data dataset=image_folder dataset.path=PATH
    neurogen data --help
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from neurogen.errors import UserError, errors_in_one_line

if TYPE_CHECKING:
    from rich.console import Console

    from neurogen.config import DatasetConfig
    from neurogen.data.raw import RawSplits

TEXTS_PER_CLASS, MOST_CLASSES = 3, 24
USAGE = """\
usage: neurogen data [KEY=VALUE ...] [out=FILE.png]

Read a dataset as `neurogen run` does with the same arguments, train nothing, and show what was read: samples of each
class and split, what was left out or changed, and some pictures (as a contact sheet) or texts of every class.

  neurogen data dataset=image_folder dataset.path=PATH dataset.resize=64
  neurogen data dataset=text_table dataset.path=reviews.csv

options:
  out=FILE.png, --out FILE.png  where the contact sheet goes; default: data-DATASET.png
  -h, --help                    show this"""


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    overrides: tuple[str, ...]  # of the config
    out: Path | None


def main() -> None:
    """The command: errors of the user's in one line, exit status 1."""
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        print(USAGE)
        return
    with errors_in_one_line():
        show(parse(words))


def parse(words: Sequence[str]) -> Request:
    """The words of the command line. Raises UserError for an unknown option, and for a file that is no PNG."""
    overrides, out = [], None
    remaining = iter(words)
    for word in remaining:
        if word == "--out":
            out = next(remaining, "")
        elif word.startswith(("--out=", "out=")):
            out = word.partition("=")[2]
        elif word.startswith("-"):
            raise UserError(f"{word} is no option here; --help shows those that are")
        else:
            overrides.append(word)
    if out is not None and not out.lower().endswith(".png"):
        raise UserError(f"out={out} must end in .png")
    return Request(tuple(overrides), None if out is None else Path(out))


def show(request: Request) -> None:
    """Print what was read, and write the contact sheet. Raises UserError as `compose` and `load_raw` do."""
    from neurogen.run import compose

    dataset = compose(request.overrides).dataset
    if dataset.text is not None and request.out is not None:
        raise UserError(f"out={request.out} is for pictures; {dataset.name} has texts, which are printed")
    from neurogen.data.raw import load_raw
    from neurogen.data.report import DataReport
    from neurogen.report.study_tables import data
    from neurogen.report.terminal import console_here, rich_table

    raw, console = load_raw(dataset), console_here()
    table = data([DataReport.of(dataset.name, raw)])
    console.print(rich_table(table, dataset.name, bold="all classes"))
    for note in raw.notes:
        console.print(note, markup=False)
    if dataset.text is None:
        _draw_pictures(dataset, raw, request.out, console)
    else:
        _print_texts(raw, console)


def _draw_pictures(dataset: DatasetConfig, raw: RawSplits, out: Path | None, console: Console) -> None:
    from neurogen.report import contact_sheet
    from neurogen.report.captions import without_signs

    path = out or Path(f"data-{dataset.name}.png")
    sheet = contact_sheet.contact_sheet(raw.train.samples, raw.train.labels, raw.class_names)
    try:
        sheet.save(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); give another file as out=FILE.png") from error
    num_classes = min(len(raw.class_names), contact_sheet.MOST_CLASSES)
    what = "all" if num_classes == len(raw.class_names) else f"the first {num_classes}"
    console.print(f"contact sheet  {path}  (training pictures of {what} classes)", markup=False)
    for name in without_signs(raw.class_names[:num_classes]):
        console.print(f"  on it, {name} is class {raw.class_names.index(name) + 1}", markup=False)


def _print_texts(raw: RawSplits, console: Console) -> None:
    """The first training texts of each class, each on one line."""
    for label, name in list(enumerate(raw.class_names))[:MOST_CLASSES]:
        console.print(f"\n{name}", style="bold", markup=False)
        for text in raw.train.samples[raw.train.labels == label][:TEXTS_PER_CLASS]:
            on_one_line = " ".join(str(text).split())
            console.print(f"  {on_one_line}", markup=False, soft_wrap=False, no_wrap=True, overflow="ellipsis")
    if len(raw.class_names) > MOST_CLASSES:
        console.print(f"\nand {len(raw.class_names) - MOST_CLASSES:,} more classes")


if __name__ == "__main__":
    main()
