"""Samples that belong to none of the tasks, for every shape of data.

images  crops of two photographs; the label says which photograph
texts   sentences of three data descriptions; the label says which description

A generator that follows its data must generate another network from them. Both sources ship inside scikit-learn.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from neurogen.data.preparation import ImageShape
from neurogen.data.raw import Labelled

PHOTOGRAPHS = ("temple", "flower")
TABLES = ("irises", "wines", "cells")
MIN_WORDS = 6  # of a sentence


def photographs(shape: ImageShape) -> Labelled:
    """Crops without overlap, [crops, channels, height, width] as `shape` says; labels are indices of PHOTOGRAPHS."""
    from sklearn.datasets import load_sample_images

    pictures = [_with_channels(picture, shape.channels) for picture in load_sample_images().images]
    crops = [_crops(picture, shape.height, shape.width) for picture in pictures]
    return Labelled.of(np.concatenate(crops), np.repeat([0, 1], [len(of_photograph) for of_photograph in crops]))


def sentences() -> Labelled:
    """Sentences of at least MIN_WORDS words; labels are indices of TABLES."""
    from sklearn.datasets import load_breast_cancer, load_iris, load_wine

    by_table = [_sentences(load().DESCR) for load in (load_iris, load_wine, load_breast_cancer)]
    labels = np.repeat(range(len(TABLES)), [len(texts) for texts in by_table])
    return Labelled.of([text for texts in by_table for text in texts], labels)


def _with_channels(picture: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """[height, width, 3] → [channels, height, width]; grey unless `channels` is 3."""
    if channels == 3:
        return picture.transpose(2, 0, 1)
    return np.repeat(picture.mean(2, keepdims=True).astype(np.uint8).transpose(2, 0, 1), channels, 0)


def _crops(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """[channels, picture height, picture width] → [crops, channels, height, width], without overlap."""
    channels, rows, columns = len(picture), picture.shape[1] // height, picture.shape[2] // width
    cut = picture[:, : rows * height, : columns * width].reshape(channels, rows, height, columns, width)
    return cut.transpose(1, 3, 0, 2, 4).reshape(rows * columns, channels, height, width)


def _sentences(description: str) -> list[str]:
    """The parts of a description that are prose, without its lists, numbers and headings."""
    candidates = re.split(r"(?<=[.;])\s+", " ".join(description.split()))
    prose = re.compile(rf"[A-Za-z][A-Za-z,;()'-]*( [A-Za-z,;()'-]+){{{MIN_WORDS - 1},}}[.;]")
    return [text for text in candidates if prose.fullmatch(text)]
