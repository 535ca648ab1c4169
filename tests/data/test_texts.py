"""Text loaders: a corpus inside a package, the hub's loader on small parquet folders, the user's tables."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import datasets
import numpy as np
import pandas
import pytest

from neurogen.data.raw import RawSplits, load_raw
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
    with pytest.raises(UserError, match=r"classes rotten and fresh; leave out dataset.text.class_names=\[bad,good\]"):
        load(experiment, "rotten_tomatoes", "dataset.text.class_names=[bad,good]")
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
        hypotheses = [f"Somebody of {count} sleeps, {index}." for index in range(count)]
        labels = [-1, 0, 1, 2]
        return pandas.DataFrame(
            {"premise": ["A man runs."] * count, "hypothesis": hypotheses, "label": (labels * count)[:count]}
        )

    path = parquet(tmp_path / "snli", train=pairs(40), validation=pairs(8), test=pairs(16))
    raw = load(experiment, "snli", path)
    assert raw.validation is not None
    assert (len(raw.train), len(raw.validation), len(raw.test)) == (30, 6, 12)  # the hub's own validation split
    assert raw.class_names == ("entailment", "neutral", "contradiction")
    assert raw.test.samples[0] == "A man runs. | Somebody of 16 sleeps, 1."
    assert raw.test.labels.tolist()[:4] == [0, 1, 2, 0]


def test_ag_news_has_its_two_splits(experiment: Composed, tmp_path: Path) -> None:
    def news(count: int) -> pandas.DataFrame:
        texts = [f"news {n} of {count}" for n in range(count)]
        return pandas.DataFrame({"text": texts, "label": [n % 4 for n in range(count)]})

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
    rows = "".join(f'"good film {n}\t1\nplain film {n}\t0\n' for n in range(20))
    (tmp_path / "own.tsv").write_text("review\tstars\n" + rows)
    raw = load(experiment, "text_table", f"dataset.path={tmp_path}/own.tsv", *TABLE)
    assert len(raw.train) + len(raw.test) + (len(raw.validation) if raw.validation else 0) == 40
    assert {text[:5] for text in raw.test.samples} == {'"good', "plain"}


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
    refused("review,stars\nschön,1\n".encode("latin-1"), r"is not UTF-8 .* in line 2")
    refused(b'review,stars\n"never closed,1\n', r"line 2: a quotation mark is not closed")
    refused(b"not json", r"no readable JSON table", name="own.jsonl")
    refused(b"not parquet", r"no readable parquet table", name="own.parquet")
    refused(REVIEWS, r"no table that is read here; allowed: .csv", name="own.xlsx")
    refused(REVIEWS.assign(stars=1), r"one class only \(1\)")
    refused(
        REVIEWS.assign(stars=np.linspace(0, 1, 60)), r"label 0.0169.*; a label is a whole number or", name="own.parquet"
    )
    refused(REVIEWS.assign(stars=["", *["a", "b", "c"] * 19, "a", "b"]), r"sample 1 has no label")
    refused(REVIEWS.assign(stars=[None, *[0, 1] * 29, 1]), r"sample 1 has no label", name="own.parquet")
    refused(
        b"review,stars\n" + b"a film, a good one,1\n" * 9, r"line 2: the number of fields is 3, and 2 in the header"
    )
    refused(
        REVIEWS.assign(stars=["x", *["a", "b"] * 29, "a"]),
        r"label 'x'; allowed: a, b",
        "dataset.text.class_names=[a,b]",
    )
    refused(REVIEWS.assign(stars=[7, *[0, 1] * 29, 1]), r"label '7'; allowed: 0, 1", "dataset.text.class_names=[a,b]")
    many = pandas.concat([REVIEWS] * 20)
    refused(many.assign(stars=[f"name {n}" for n in range(1200)]), r"1,200 different labels; is dataset.text.label")
    with pytest.raises(UserError, match=r"/nowhere does not exist; give one table .*, or a folder with train"):
        load(experiment, "text_table", f"dataset.path={tmp_path}/nowhere", *TABLE)


def named_parquet(path: Path, names: list[str], rows: list[tuple[str, int]]) -> None:
    """A file as `datasets` writes it, which notes the names of its classes."""
    features = datasets.Features(sentence=datasets.Value("string"), label=datasets.ClassLabel(names=names))
    columns = {"sentence": [text for text, _ in rows], "label": [label for _, label in rows]}
    datasets.Dataset.from_dict(columns, features).to_parquet(path)


SENTENCES = [(f"sentence {n}", n % 2) for n in range(40)]


def test_the_names_of_the_hub_win_and_must_be_ours(experiment: Composed, tmp_path: Path) -> None:
    named_parquet(tmp_path / "train-0.parquet", ["Negative", "Positive"], SENTENCES)
    named_parquet(tmp_path / "validation-0.parquet", ["Negative", "Positive"], [("good", 1), ("bad", 0)])
    raw = load(experiment, "sst2", f"dataset.path={tmp_path}")
    assert raw.class_names == ("Negative", "Positive")
    assert raw.source_labels == ("0", "1")
    assert raw.test.labels.tolist() == [1, 0]
    with pytest.raises(
        UserError, match=r"calls its classes Negative, Positive, and dataset.text.class_names good, bad"
    ):
        load(experiment, "sst2", f"dataset.path={tmp_path}", "dataset.text.class_names=[good,bad]")
    named_parquet(tmp_path / "validation-0.parquet", ["Positive", "Negative"], [("good", 0), ("bad", 1)])
    with pytest.raises(UserError, match=r"validation-0.parquet calls its classes Positive, Negative, and another file"):
        load(experiment, "sst2", f"dataset.path={tmp_path}")


def test_a_broken_file_of_a_hub_folder_is_the_folders_fault(experiment: Composed, tmp_path: Path) -> None:
    words = parquet(tmp_path / "sst2", train=sst2(40, [0, 1]), validation=sst2(9, [1, 0]))
    file = tmp_path / "sst2" / "train-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"/sst2 cannot be read \(.+\); repair or replace its files"):
        load(experiment, "sst2", words)


def test_new_content_of_a_hub_folder_is_read_though_its_time_is_the_old_one(
    experiment: Composed, tmp_path: Path
) -> None:
    for word in ("good", "fine"):
        path = parquet(tmp_path / word, train=sst2(40, [0, 1]), validation=sst2(9, [1, 0]))
        file = tmp_path / word / "validation-00000-of-00001.parquet"
        pandas.DataFrame({"sentence": [word, "dull"], "label": [1, 0]}).to_parquet(file)
        os.utime(file, (10**9, 10**9))
        if word == "fine":
            shutil.rmtree(tmp_path / "good")
            path = f"dataset.path={(tmp_path / word).rename(tmp_path / 'good')}"
        assert list(load(experiment, "sst2", path).test.samples) == [word, "dull"]


def test_a_table_whose_file_names_its_classes(experiment: Composed, tmp_path: Path) -> None:
    named_parquet(tmp_path / "train.parquet", ["neg", "pos"], SENTENCES)
    words = (f"dataset.path={tmp_path}", "dataset.text.columns=[sentence]")
    assert load(experiment, "text_table", *words).class_names == ("neg", "pos")
    (tmp_path / "test.csv").write_text("sentence,label\na joy,pos\nso bad,neg\n")
    raw = load(experiment, "text_table", *words)
    assert (raw.class_names, raw.test.labels.tolist()) == (("neg", "pos"), [1, 0])
    named_parquet(tmp_path / "validation.parquet", ["pos", "neg"], [("fine", 0), ("dull", 1)])
    with pytest.raises(UserError, match=r"validation.parquet calls its classes pos, neg, and .*train.parquet neg, pos"):
        load(experiment, "text_table", *words)


def test_labels_of_one_class_may_have_other_types_in_other_files(experiment: Composed, tmp_path: Path) -> None:
    rows = "".join(f"film {n},{n % 2}\n" for n in range(40))
    (tmp_path / "train.csv").write_text(f"text,label\n{rows}")
    (tmp_path / "val.json").write_text(json.dumps([{"text": "x", "label": 1.0}, {"text": "y", "label": "0 "}]))
    (tmp_path / "test.jsonl").write_text('{"text": "a", "label": 1}\n{"text": "b", "label": "0"}\n')
    (tmp_path / "notes.txt").write_text("not read")
    raw = load(experiment, "text_table", f"dataset.path={tmp_path}")
    assert raw.validation is not None
    assert (len(raw.train), raw.validation.labels.tolist(), raw.test.labels.tolist()) == (40, [1, 0], [1, 0])
    assert raw.notes == ("not read, since they are no train.*, validation.* or test.*: notes.txt",)
    (tmp_path / "test.jsonl").write_text('{"text": "a", "label": -1}\n{"text": "b", "label": -1}\n')
    with pytest.raises(UserError, match=r"test.jsonl has the label '-1'; .* 2 of 2 samples have it: hidden labels"):
        load(experiment, "text_table", f"dataset.path={tmp_path}")


def test_without_a_table_for_test_a_fifth_of_train_is_test(experiment: Composed, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(f"film {n},{n % 2}\n" for n in range(40)))
    (tmp_path / "dev.csv").write_text("text,label\nx,1\ny,0\n")
    raw = load(experiment, "text_table", f"dataset.path={tmp_path}")
    assert raw.validation is not None
    assert (len(raw.train), len(raw.validation), len(raw.test)) == (32, 2, 8)


def test_labels_are_as_written_whatever_the_other_rows_have(experiment: Composed, tmp_path: Path) -> None:
    labels = ["1", "01", "1E5", "true", "N/A"]
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"film {n}, {labels[n % 5]} \n" for n in range(60)))
    raw = load(experiment, "text_table", f"dataset.path={tmp_path}/a.csv")
    assert raw.class_names == ("1", "01", "1E5", "N/A", "true")


def test_half_of_a_sign_is_named(experiment: Composed, tmp_path: Path) -> None:
    rows = [json.dumps({"text": f"film {n}", "label": n % 2}) for n in range(20)]
    rows[7] = '{"text": "good \\ud83d", "label": 1}'
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    with pytest.raises(UserError, match=r"a.jsonl: sample 8 has half of a sign that takes two \(a lone surrogate"):
        load(experiment, "text_table", f"dataset.path={tmp_path}/a.jsonl")
