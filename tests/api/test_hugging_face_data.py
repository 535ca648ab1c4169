"""Datasets of Hugging Face as data: their splits, columns and names, and what is refused."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pandas
import pytest
from PIL import Image

import neurogen
from neurogen import Data

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 2, 5, 7), dtype=np.uint8)
LABELS = np.arange(12) % 3


def test_a_dataset_of_hugging_face_brings_splits_and_names() -> None:
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["no", "yes"]))
    part = datasets.Dataset.from_dict({"text": ["bad", "good"] * 3, "label": [0, 1] * 3}, features)
    data = Data.from_datasets(datasets.DatasetDict(train=part, test=part, unsupervised=part), title="reviews")
    assert data.class_names == ("no", "yes")
    assert set(data.splits) == {"train", "test"}
    pictures = datasets.Dataset.from_dict(
        {"picture": [Image.fromarray(part[0]) for part in PIXELS], "kind": ["a", "b"] * 6},
        datasets.Features(picture=datasets.Image(), kind=datasets.Value("string")),
    )
    images = Data.from_datasets(pictures, samples="picture", label="kind")
    assert (images.splits["train"].samples == PIXELS[:, :1]).all()
    with pytest.raises(neurogen.UserError, match="has the columns picture, kind; give samples=COLUMN"):
        Data.from_datasets(pictures)


@pytest.mark.parametrize("name", ["valid", "dev", "val", "validation", "Validation"])
def test_splits_of_hugging_face_have_the_names_that_folders_may_have(name: str) -> None:
    part = datasets.Dataset.from_dict({"text": ["bad", "good"] * 3, "label": [0, 1] * 3})
    data = Data.from_datasets({"training": part, name: part, "testing": part})
    assert set(data.splits) == {"train", "validation", "test"}
    with pytest.raises(neurogen.UserError, match=f"{name} and another split that is validation too; leave one of them"):
        Data.from_datasets({"train": part, "eval": part, "VALID" if name == "val" else "val": part, name: part})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (pandas.DataFrame({"text": ["a"], "label": [0]}), "train is a DataFrame; give a datasets.Dataset"),
        ({"train": [1, 2]}, "train is a list; give a datasets.Dataset"),
        ({"trian": 1, "test": 2}, "the dataset has the splits trian, test; it needs one that is called train"),
        (None, "train is a NoneType; give a datasets.Dataset"),
        (datasets.Dataset.from_dict({"text": ["a"], "label": [0]}).to_iterable_dataset(), "train is a IterableDataset"),
    ],
)
def test_what_is_no_dataset_of_hugging_face_is_named_by_its_type(given: Any, message: str) -> None:
    with pytest.raises(neurogen.UserError, match=message):
        Data.from_datasets(given)


def test_a_part_of_a_dataset_has_the_names_of_its_classes() -> None:
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["a", "b", "c"]))
    whole = datasets.Dataset.from_dict({"text": ["bad", "good", "odd"] * 3, "label": [0, 1, 2] * 3}, features)
    assert Data.from_datasets(whole.filter(lambda row: row["label"] > 0)).class_names == ("b", "c")
    unlabelled = datasets.Dataset.from_dict({"text": ["bad"], "label": [-1]}, features)
    with pytest.raises(neurogen.UserError, match="labels has the label '-1'; allowed: a, b, c"):
        Data.from_datasets({"train": whole, "test": unlabelled})
