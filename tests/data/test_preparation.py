"""From raw samples to what target networks read."""

from __future__ import annotations

import torch

from neurogen.data.preparation import PADDING, Texts


def test_texts_are_padded_to_the_longest_that_is_asked_for() -> None:
    texts = Texts.of([[1, 2, 3], [4], [5, 6]])
    assert len(texts) == 3
    assert texts[torch.tensor([1, 2])].tolist() == [[4, PADDING], [5, 6]]
    assert texts[:].tolist() == [[1, 2, 3], [4, PADDING, PADDING], [5, 6, PADDING]]
