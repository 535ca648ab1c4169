"""Text loaders: a corpus inside a package, the hub's loader on small parquet folders, the user's tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas
import pytest

from neurogen.data.dataset import RawSplits, load_raw
from neurogen.errors import UserError
from tests.conftest import Composed


def load(experiment: Composed, name: str, *more: str) -> RawSplits:
    """The raw splits of a text dataset."""
    return load_raw(experiment(f"dataset={name}", "target=mlp", *more).dataset)


def test_rotten_tomatoes_has_no_text_twice(experiment: Composed) -> None:
    raw = load(experiment, "rotten_tomatoes")
    assert raw.validation is not None
    splits = (raw.train, raw.validation, raw.test)
    sizes = [len(split) for split in splits]
    assert sizes == [9181, 1020, 2551]
    texts = [text for split in splits for text in split.samples]
    assert len(set(texts)) == sum(sizes)
    assert all(text.strip() for text in texts)
    assert raw.class_names == ("rotten", "fresh")
    for split in splits:
        assert split.labels.mean() == pytest.approx(0.578, abs=0.001)


def parquet(folder: Path, **splits: pandas.DataFrame) -> str:
    """A folder of parquet files, as the hub has it; returns the override that names it."""
    folder.mkdir()
    for name, table in splits.items():
        table.to_parquet(folder / f"{name}-00000-of-00001.parquet")
    return f"dataset.path={folder}"


def sst2(count: int, labels: list[int]) -> pandas.DataFrame:
    """A split of `count` sentences with these labels in turn."""
    sentences = [f"sentence {index} of {count}" for index in range(count)]
    return pandas.DataFrame({"idx": range(count), "sentence": sentences, "label": (labels * count)[:count]})


def test_sst2_is_tested_on_its_validation_split(experiment: Composed, tmp_path: Path) -> None:
    path = parquet(tmp_path / "sst2", train=sst2(40, [0, 1]), validation=sst2(9, [1, 0]), test=sst2(5, [-1]))
    raw = load(experiment, "sst2", path)
    assert raw.class_names == ("negative", "positive")
    assert raw.validation is not None
    assert (len(raw.train), len(raw.validation), len(raw.test)) == (36, 4, 9)
    assert list(raw.test.samples) == [f"sentence {index} of 9" for index in range(9)]
    with pytest.raises(UserError, match=r"split test has no labels .*dataset.text.test_split"):
        load(experiment, "sst2", path, "dataset.text.test_split=test")
    with pytest.raises(UserError, match=r"has no split dev; it has train, validation, test"):
        load(experiment, "sst2", path, "dataset.text.test_split=dev")


def test_snli_joins_its_pairs_and_drops_those_without_a_label(experiment: Composed, tmp_path: Path) -> None:
    def pairs(count: int) -> pandas.DataFrame:
        hypotheses = [f"Somebody sleeps, {index}." for index in range(count)]
        labels = [-1, 0, 1, 2]
        return pandas.DataFrame(
            {"premise": ["A man runs."] * count, "hypothesis": hypotheses, "label": (labels * count)[:count]}
        )

    path = parquet(tmp_path / "snli", train=pairs(40), validation=pairs(8), test=pairs(16))
    raw = load(experiment, "snli", path)
    assert raw.validation is not None
    assert (len(raw.train), len(raw.validation), len(raw.test)) == (30, 6, 12)  # the hub's own validation split
    assert raw.class_names == ("entailment", "neutral", "contradiction")
    assert raw.test.samples[0] == "A man runs. | Somebody sleeps, 1."
    assert raw.test.labels.tolist()[:4] == [0, 1, 2, 0]


def test_ag_news_has_its_two_splits(experiment: Composed, tmp_path: Path) -> None:
    def news(count: int) -> pandas.DataFrame:
        return pandas.DataFrame({"text": [f"news {n}" for n in range(count)], "label": [n % 4 for n in range(count)]})

    raw = load(experiment, "ag_news", parquet(tmp_path / "ag", train=news(80), test=news(20)))
    assert raw.validation is not None
    assert (len(raw.train), len(raw.validation), len(raw.test)) == (72, 8, 20)
    assert raw.class_names == ("World", "Sports", "Business", "Sci/Tech")


def test_the_hub_out_of_reach_says_what_to_do(experiment: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"stanfordnlp/sst2 is neither in the cache nor.*rotten_tomatoes"):
        load(experiment, "sst2")


REVIEWS = pandas.DataFrame(
    {"review": [f"film {n} is {'NA' if n % 2 else 'null'}" for n in range(60)], "stars": [n % 3 for n in range(60)]}
)
TABLE = ["dataset.text.columns=[review]", "dataset.text.label=stars"]


def write(table: pandas.DataFrame, path: Path) -> Path:
    """A file of the format that its suffix names."""
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in table.to_dict("records")), encoding="utf-8")
    else:
        table.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_table_of_the_users(experiment: Composed, tmp_path: Path, suffix: str) -> None:
    path = write(REVIEWS, tmp_path / f"reviews{suffix}")
    raw = load(experiment, "text_table", f"dataset.path={path}", *TABLE)
    assert raw.class_names == ("0", "1", "2")
    assert raw.validation is not None
    assert (len(raw.train), len(raw.validation), len(raw.test)) == (42, 6, 12)
    read = {
        text: label for split in (raw.train, raw.test) for text, label in zip(split.samples, split.labels, strict=True)
    }
    assert all(read[text] == int(text.split()[1]) % 3 for text in read)


def test_a_label_of_minus_one_is_a_label_in_a_table_of_the_users(experiment: Composed, tmp_path: Path) -> None:
    path = write(REVIEWS.assign(stars=[-1, 0, 1] * 20), tmp_path / "signed.csv")
    assert load(experiment, "text_table", f"dataset.path={path}", *TABLE).class_names == ("-1", "0", "1")


def test_a_quotation_mark_in_a_tsv_is_a_character(experiment: Composed, tmp_path: Path) -> None:
    (tmp_path / "own.tsv").write_text("review\tstars\n" + '"good film\t1\nplain film\t0\n' * 20)
    raw = load(experiment, "text_table", f"dataset.path={tmp_path}/own.tsv", *TABLE)
    assert len(raw.train) + len(raw.test) + (len(raw.validation) if raw.validation else 0) == 40
    assert set(raw.test.samples) == {'"good film', "plain film"}


def test_labels_may_be_words(experiment: Composed, tmp_path: Path) -> None:
    table = REVIEWS.assign(stars=["bad", "good", "fair"] * 20)
    (tmp_path / "train.csv").write_text(table.to_csv(index=False))
    (tmp_path / "test.csv").write_text(table[:6].to_csv(index=False))
    raw = load(experiment, "text_table", f"dataset.path={tmp_path}", *TABLE)
    assert raw.class_names == ("bad", "fair", "good")
    assert raw.test.labels.tolist() == [0, 2, 1, 0, 2, 1]
    named = load(
        experiment, "text_table", f"dataset.path={tmp_path}", *TABLE, "dataset.text.class_names=[good,fair,bad]"
    )
    assert named.class_names == ("good", "fair", "bad")
    assert named.test.labels.tolist() == [2, 0, 1, 2, 0, 1]


def test_bad_tables_are_named(experiment: Composed, tmp_path: Path) -> None:
    def refused(table: pandas.DataFrame | bytes, message: str, *more: str, name: str = "own.csv") -> None:
        path = tmp_path / name
        if isinstance(table, bytes):
            path.write_bytes(table)
        else:
            write(table, path)
        with pytest.raises(UserError, match=message) as caught:
            load(experiment, "text_table", f"dataset.path={path}", *TABLE, *more)
        assert "\n" not in str(caught.value)

    refused(
        REVIEWS.rename(columns={"review": "text"}), r"no column review; it has text, stars; set dataset.text.columns"
    )
    refused(REVIEWS.assign(review=["  ", *REVIEWS.review[1:]]), r"sample 1 has an empty text")
    refused(REVIEWS.assign(review=[None, *REVIEWS.review[1:]]), r"sample 1 is no text", name="own.parquet")
    refused("review,stars\nschön,1\n".encode("latin-1"), r"is not UTF-8 .* at byte")
    refused(b'review,stars\n"never closed,1\n', r"no readable .csv table")
    refused(b"not json", r"no readable .jsonl table", name="own.jsonl")
    refused(b"not parquet", r"no readable .parquet table", name="own.parquet")
    refused(REVIEWS, r"no table that is read here; allowed: .csv", name="own.xlsx")
    refused(REVIEWS.assign(stars=1), r"one class only \(1\)")
    refused(REVIEWS.assign(stars=np.linspace(0, 1, 60)), r"label 0.0; a label is a whole number or a word")
    refused(REVIEWS.assign(stars=["", *["a", "b", "c"] * 19, "a", "b"]), r"sample 1 has no label")
    refused(REVIEWS.assign(stars=[None, *[0, 1] * 29, 1]), r"sample 1 has no label", name="own.parquet")
    refused(b"review,stars\n" + b"a film, a good one,1\n" * 9, r"no readable .csv table")
    refused(
        REVIEWS.assign(stars=["x", *["a", "b"] * 29, "a"]),
        r"label 'x'; allowed: a, b",
        "dataset.text.class_names=[a,b]",
    )
    refused(REVIEWS.assign(stars=[7, *[0, 1] * 29, 1]), r"labels \[7\] beside its 2", "dataset.text.class_names=[a,b]")
    many = pandas.concat([REVIEWS] * 20)
    refused(many.assign(stars=[f"name {n}" for n in range(1200)]), r"1,200 different labels; is dataset.text.label")
    with pytest.raises(UserError, match=r"a folder with train.\* and test.\*; it has no train"):
        load(experiment, "text_table", f"dataset.path={tmp_path}/nowhere", *TABLE)
