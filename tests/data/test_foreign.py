"""Samples that belong to no task."""

from __future__ import annotations

import pytest

from neurogen.data import foreign
from neurogen.data.preparation import ImageShape


@pytest.mark.parametrize("shape", [ImageShape(1, 28, 28, 10), ImageShape(3, 32, 32, 10), ImageShape(2, 8, 12, 3)])
def test_photographs_come_in_every_shape(shape: ImageShape) -> None:
    crops = foreign.photographs(shape)
    assert crops.samples.shape[1:] == (shape.channels, *shape.size)
    assert crops.samples.std() > 20
    assert set(crops.labels.tolist()) == {0, 1}


def test_sentences_are_prose() -> None:
    sentences = foreign.sentences()
    assert len(sentences) > 10
    assert set(sentences.labels.tolist()) == set(range(len(foreign.TABLES)))
    assert all(len(text.split()) >= foreign.MIN_WORDS for text in sentences.samples)
