"""Texts as all text targets of a backbone read them (paper 4.1: they share one frozen embedding).

in:  raw texts; the backbone's tokenizer and its input embedding E [vocabulary, hidden]
out: token ids of every split; the table (E − mean) V / σ, where V holds the `embedding_dim` first principal components
     and σ is one standard deviation for the whole table

It is done once for a dataset and a backbone; classical training and generated networks read the same file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from neurogen.config import DatasetConfig
from neurogen.data.dataset import Dataset, Split, dataset_of, load_raw
from neurogen.data.preparation import Texts, TokenEmbedding
from neurogen.data.tokenised import save_texts
from neurogen.errors import UserError
from neurogen.generator.backbone import tokenised
from neurogen.generator.pretrained import load_pretrained
from neurogen.study.pipeline import Embed
from neurogen.training.runtime import Runtime

EXAMPLES = 1000  # texts tokenised at a time


def embed(step: Embed, runtime: Runtime) -> dict[str, Any]:
    about = step.dataset.text
    assert about is not None
    pretrained = load_pretrained(step.model, "auto")  # as it is stored: the table must not depend on the device
    table, explained = reduced(pretrained.model.get_input_embeddings().weight.detach().float(), about.embedding_dim)
    dataset, lengths = text_dataset(step.dataset, pretrained.tokenizer, TokenEmbedding(table))
    save_texts(dataset, step.folder)
    num_cut = sum(length > about.max_tokens for length in lengths)
    if num_cut:
        print(
            f"  {num_cut:,} of {len(lengths):,} texts are longer than {about.max_tokens} tokens and were cut "
            f"(the longest has {max(lengths):,}; dataset.text.max_tokens sets the limit)",
            flush=True,
        )
    return {"num_texts": len(lengths), "num_cut": num_cut, "longest": max(lengths), "explained_variance": explained}


def text_dataset(config: DatasetConfig, tokenizer: Any, embedding: TokenEmbedding) -> tuple[Dataset, list[int]]:
    """(the dataset as the loader gives it, tokenised; how many tokens every text had before it was cut)."""
    raw, lengths = load_raw(config), []
    splits = []
    for part in (raw.train, raw.validation, raw.test):
        assert part is not None
        ids = token_ids(list(part.samples), tokenizer)
        lengths += [len(text) for text in ids]
        splits.append(text_split(ids, part.labels, config, embedding))
    return dataset_of(config, raw.class_names, *splits), lengths


def text_split(
    ids: list[list[int]], labels: NDArray[np.int64], config: DatasetConfig, embedding: TokenEmbedding
) -> Split:
    assert config.text is not None
    cut = [text[: config.text.max_tokens] for text in ids]
    return Split(Texts.of(cut), torch.from_numpy(labels), embedding)


def token_ids(texts: list[str], tokenizer: Any) -> list[list[int]]:
    """Token ids of every text. Raises UserError for a text of which no token is left."""
    found: list[list[int]] = []
    for first in range(0, len(texts), EXAMPLES):
        found += tokenised(texts[first : first + EXAMPLES], tokenizer)
    for text, ids in zip(texts, found, strict=True):
        if not ids:
            raise UserError(f"the backbone's tokenizer makes no token of the text {text!r}; mend or remove it")
    return found


def reduced(table: Float[Tensor, "vocabulary hidden"], dim: int) -> tuple[Float[Tensor, "vocabulary dim"], float]:
    """(the table on its first `dim` principal components, in units of its standard deviation; variance explained)."""
    if dim > table.shape[1]:
        raise UserError(
            f"dataset.text.embedding_dim={dim} is more than the backbone's hidden size, {table.shape[1]}; lower it"
        )
    centred = table - table.mean(0)
    covariance = centred.T @ centred
    variances, components = torch.linalg.eigh(covariance.double())  # ascending
    components = components[:, -dim:].flip(1)
    largest = components.gather(0, components.abs().argmax(0, keepdim=True))
    components = components * largest.sign()  # eigenvectors have no sign of their own
    kept = centred @ components.float()
    kept = kept / kept.std()
    zero = ~kept.any(1)  # zeros mean padding
    kept[zero, 0] = torch.finfo(torch.float32).tiny
    return kept.contiguous(), float(variances[-dim:].sum() / variances.sum())
