"""From raw samples to what target networks read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurogen.data import preparation
from neurogen.data.preparation import PADDING, Normalisation, Texts, TokenEmbedding


def test_texts_are_padded_to_the_longest_that_is_asked_for() -> None:
    texts = Texts.of([[1, 2, 3], [4], [5, 6]])
    assert len(texts) == 3
    assert texts[torch.tensor([1, 2])].tolist() == [[4, PADDING], [5, 6]]
    assert texts[:].tolist() == [[1, 2, 3], [4, PADDING, PADDING], [5, 6, PADDING]]


def test_the_normalisation_is_that_of_all_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "IMAGES_COUNTED_AT_A_TIME", 7)
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 5, 4), dtype=np.uint8)
    images[:, 2] = 90
    normalisation = Normalisation.of(images)
    fractions = images.transpose(1, 0, 2, 3).reshape(3, -1) / 255
    assert normalisation.mean.flatten().tolist() == pytest.approx(fractions.mean(1), rel=1e-6)
    assert normalisation.std.flatten().tolist() == pytest.approx([*fractions.std(1)[:2], 1e-3], rel=1e-6)
    inputs = normalisation(torch.from_numpy(images))
    assert inputs[:, :2].mean((0, 2, 3)).tolist() == pytest.approx([0, 0], abs=1e-6)


def test_texts_of_one_length_in_every_batch_lose_nothing() -> None:
    texts = Texts.of([[1, 2, 3], [4], [5, 6]])
    assert texts.lengths.tolist() == [3, 1, 2]
    assert texts.all_padded()[torch.tensor([1, 2])].tolist() == [[4, PADDING, PADDING], [5, 6, PADDING]]


def test_padding_is_zero_and_every_token_a_row_of_the_table() -> None:
    table = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    embedded = TokenEmbedding(table)(torch.tensor([[6, 0, PADDING], [PADDING, 2, 6]]))
    assert torch.equal(embedded[0, :2], table[[6, 0]])
    assert torch.equal(embedded[1, 1:], table[[2, 6]])
    assert not embedded[0, 2].any()
    assert not embedded[1, 0].any()


@pytest.mark.parametrize("chosen", [[2, 0, 2], [1], [0, 1, 2, 3], []])
def test_some_of_all_texts_are_the_same_texts(chosen: list[int]) -> None:
    texts = [[5, 6, 7], [], [8], [9, 9]]
    some = Texts.of(texts).subset(torch.tensor(chosen, dtype=torch.int64))
    assert len(some) == len(chosen)
    assert (some.ids.dtype, some.starts.dtype) == (torch.int32, torch.int64)
    assert [[int(token) for token in row if token >= 0] for row in some[:]] == [texts[index] for index in chosen]
