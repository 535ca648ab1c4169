"""The file in which the step `embed` stores a tokenised text dataset.

texts.safetensors   token ids, starts and labels of every split, and the table of the frozen embedding
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from neurogen import store
from neurogen.config import DatasetConfig
from neurogen.data.dataset import Dataset, Split
from neurogen.data.preparation import Texts, TokenEmbedding
from neurogen.data.splits import SplitName
from neurogen.errors import UserError

FILE = "texts.safetensors"


def save_texts(dataset: Dataset, folder: Path) -> None:
    """Write a tokenised dataset into `folder`; its splits share one table. Raises UserError where it cannot."""
    assert isinstance(dataset.preparation, TokenEmbedding)
    tensors = {"table": dataset.preparation.table}
    for name in SplitName:
        split: Split = getattr(dataset, name)
        assert isinstance(split.samples, Texts)
        tensors |= {f"{name}.ids": split.samples.ids, f"{name}.starts": split.samples.starts}
        tensors[f"{name}.labels"] = split.labels
    about = {
        "class_names": json.dumps(dataset.class_names),
        "notes": json.dumps(dataset.notes),
        "source_labels": json.dumps(dataset.source_labels),
    }
    store.write_tensors(folder / FILE, tensors, about)


def load_texts(config: DatasetConfig, folder: Path) -> Dataset:
    """Read what `save_texts` wrote. Raises UserError where the file is missing or broken."""
    store.require_as_written(folder / FILE)
    try:
        with safe_open(folder / FILE, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            about = file.metadata()
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{folder / FILE} is missing or broken ({error}); delete the folder {folder} and run again to make it anew"
        ) from error
    embedding = TokenEmbedding(tensors["table"])
    splits = (
        Split(Texts(tensors[f"{name}.ids"], tensors[f"{name}.starts"]), tensors[f"{name}.labels"], embedding)
        for name in SplitName
    )
    class_names, notes = tuple(json.loads(about["class_names"])), tuple(json.loads(about["notes"]))
    source_labels = json.loads(about["source_labels"])
    return Dataset.of(
        config, class_names, *splits, notes=notes, source_labels=None if source_labels is None else tuple(source_labels)
    )
