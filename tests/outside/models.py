"""Repositories of the Hub: a Llama of two layers with a tokenizer of bytes, and film reviews in parquet files."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas
import torch
from transformers import LlamaConfig, LlamaModel

from neurogen.generator.pretrained import byte_tokenizer

CARD = """\
---
dataset_info:
  features:
  - name: sentence
    dtype: string
  - name: label
    dtype:
      class_label:
        names: {'0': negative, '1': positive}
configs:
- config_name: default
  data_files:
  - {split: train, path: data/train-*}
  - {split: validation, path: data/validation-*}
---
Film reviews.
"""


@cache
def language_model() -> dict[str, bytes]:
    """The files of a tiny Llama as save_pretrained writes them, and some that nobody reads."""
    config = LlamaConfig(
        hidden_size=128, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, vocab_size=264
    )
    with torch.random.fork_rng(devices=[]), TemporaryDirectory() as name:
        torch.manual_seed(0)
        LlamaModel(config).save_pretrained(name)
        byte_tokenizer(config).save_pretrained(name)
        files = {path.name: path.read_bytes() for path in Path(name).iterdir()}
    unread = {"README.md": b"A tiny Llama.", "original/consolidated.00.pth": b"not for us", "model.onnx": b"nor this"}
    return files | unread | {"pytorch_model.bin": b"the same weights again"}


@cache
def text_dataset() -> dict[str, bytes]:
    """The files of a dataset with SST-2's columns, and one of another config."""
    files = {"README.md": CARD.encode(), "other/train.csv": b"sentence,label\n"}
    for split, count in (("train", 300), ("validation", 60)):
        rows = [f"film {index} of {split} was {'bad' if index % 2 else 'good'}" for index in range(count)]
        table = pandas.DataFrame({"sentence": rows, "label": [int(index % 2 == 0) for index in range(count)]})
        file = io.BytesIO()
        table.to_parquet(file)
        files[f"data/{split}-00000-of-00001.parquet"] = file.getvalue()
    return files
