"""The step `embed`: texts as all text targets of a backbone read them (paper 4.1: they share one frozen embedding).

in:  raw texts; the backbone's tokenizer and its input embedding E [vocabulary, hidden]
out: token ids of every split; the table (E − mean) V / σ, where V holds the first `embedding_dim` principal components
     and σ is the standard deviation over the whole table

It runs once per dataset and backbone. Classical training and generated networks read the same file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from neurogen.config import DatasetConfig
from neurogen.data.dataset import Dataset, Split
from neurogen.data.preparation import Texts, TokenEmbedding
from neurogen.data.raw import load_raw
from neurogen.data.tokenised import save_texts
from neurogen.errors import UserError
from neurogen.generator.backbone import tokenised
from neurogen.generator.pretrained import load_pretrained
from neurogen.stages.data_report import note_what_was_read
from neurogen.study.task_spec import Embed
from neurogen.training.runtime import Runtime

BATCH_SIZE = 1000  # texts tokenised at a time


def embed(step: Embed, runtime: Runtime) -> dict[str, Any]:
    """Write the tokenised dataset into the step's folder, and say how many texts were cut.

    Returns num_texts, num_cut, longest (tokens, before the cut) and explained_variance (0 … 1). Raises UserError as
    `load_raw`, `load_pretrained`, `token_ids` and `reduced` do.
    """
    text = step.dataset.text
    assert text is not None
    pretrained = load_pretrained(step.model, "auto")  # as it is stored: the table must not depend on the device
    table, explained = reduced(pretrained.model.get_input_embeddings().weight.detach().float(), text.embedding_dim)
    dataset, lengths = text_dataset(step.dataset, pretrained.tokenizer, TokenEmbedding(table))
    step.require_unchanged()  # while it was read
    note_what_was_read(dataset, step.folder, runtime)
    save_texts(dataset, step.folder)
    num_cut = sum(length > text.max_tokens for length in lengths)
    if num_cut:
        print(
            f"  {num_cut:,} of {len(lengths):,} texts are longer than {text.max_tokens} tokens and were cut "
            f"(the longest has {max(lengths):,}; dataset.text.max_tokens sets the limit)",
            flush=True,
        )
    return {"num_texts": len(lengths), "num_cut": num_cut, "longest": max(lengths), "explained_variance": explained}


def text_dataset(config: DatasetConfig, tokenizer: Any, embedding: TokenEmbedding) -> tuple[Dataset, list[int]]:
    """(the dataset that the loader gives, tokenised; the number of tokens of every text before it was cut).

    Raises UserError as `load_raw` and `token_ids` do.
    """
    raw, lengths = load_raw(config), []
    splits = []
    for split in (raw.train, raw.validation, raw.test):
        assert split is not None
        ids = token_ids(list(split.samples), tokenizer)
        lengths += [len(text) for text in ids]
        splits.append(text_split(ids, split.labels, config, embedding))
    dataset = Dataset.of(config, raw.class_names, *splits, notes=raw.notes, source_labels=raw.source_labels)
    return dataset, lengths


def text_split(
    ids: list[list[int]], labels: NDArray[np.int64], config: DatasetConfig, embedding: TokenEmbedding
) -> Split:
    """A split of texts, each cut at `dataset.text.max_tokens` tokens."""
    assert config.text is not None
    cut = [text[: config.text.max_tokens] for text in ids]
    return Split(Texts.of(cut), torch.from_numpy(labels), embedding)


def token_ids(texts: list[str], tokenizer: Any) -> list[list[int]]:
    """The token ids of every text. Raises UserError for a text that the tokenizer cannot read, or makes no token of."""
    ids: list[list[int]] = []
    for first in range(0, len(texts), BATCH_SIZE):
        ids += tokenised(texts[first : first + BATCH_SIZE], tokenizer)
    for text, ids_of_text in zip(texts, ids, strict=True):
        if not ids_of_text:
            raise UserError(f"the backbone's tokenizer makes no token of the text {text!r}; mend or remove it")
    return ids


def reduced(table: Float[Tensor, "vocabulary hidden"], dim: int) -> tuple[Float[Tensor, "vocabulary dim"], float]:
    """(the table's first `dim` principal components, divided by their standard deviation; share of variance kept).

    No row is zero, because zeros mark padding. Raises UserError where `dim` is more than the hidden size.
    """
    # scikit-learn's PCA differs by up to 4e-5 whatever its solver, and every text result hangs on these bits
    if dim > table.shape[1]:
        raise UserError(
            f"dataset.text.embedding_dim={dim} is more than the backbone's hidden size, {table.shape[1]}; lower it"
        )
    centred = table - table.mean(0)
    covariance = centred.T @ centred
    variances, components = torch.linalg.eigh(covariance.double())  # ascending
    components = components[:, -dim:].flip(1)
    largest = components.gather(0, components.abs().argmax(0, keepdim=True))
    components = components * largest.sign()  # the sign of an eigenvector is arbitrary
    kept = centred @ components.float()
    kept = kept / kept.std()
    zero = ~kept.any(1)
    kept[zero, 0] = torch.finfo(torch.float32).tiny
    return kept.contiguous(), float(variances[-dim:].sum() / variances.sum())
