"""Samples of another task, for any shape of data: what a generator that follows its data must not mistake for its own.

images  crops of two photographs, labelled by which; texts: sentences about three tables, labelled by which. Both ship
inside scikit-learn.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from neurogen.data.dataset import Labelled
from neurogen.data.preparation import ImageShape

PHOTOGRAPHS = ("temple", "flower")
TABLES = ("irises", "wines", "cells")
LEAST_WORDS = 6


def photographs(shape: ImageShape) -> Labelled:
    """Crops side by side, in the size and with the channels of the shape; labels are indices of PHOTOGRAPHS."""
    from sklearn.datasets import load_sample_images

    pictures = [_with_channels(picture, shape.channels) for picture in load_sample_images().images]
    crops = [_crops(picture, shape.height, shape.width) for picture in pictures]
    return Labelled.of(np.concatenate(crops), np.repeat([0, 1], [len(part) for part in crops]))


def sentences() -> Labelled:
    """Labels are indices of TABLES."""
    from sklearn.datasets import load_breast_cancer, load_iris, load_wine

    found = [_sentences(load().DESCR) for load in (load_iris, load_wine, load_breast_cancer)]
    return Labelled.of([text for part in found for text in part], np.repeat(range(3), [len(part) for part in found]))


def _with_channels(picture: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """[height, width, 3] → [channels, height, width]; grey unless there are three channels."""
    if channels == 3:
        return picture.transpose(2, 0, 1)
    return np.repeat(picture.mean(2, keepdims=True).astype(np.uint8).transpose(2, 0, 1), channels, 0)


def _crops(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """[channels, …] → [crops, channels, height, width], without overlap."""
    channels, rows, columns = len(picture), picture.shape[1] // height, picture.shape[2] // width
    cut = picture[:, : rows * height, : columns * width].reshape(channels, rows, height, columns, width)
    return cut.transpose(1, 3, 0, 2, 4).reshape(rows * columns, channels, height, width)


def _sentences(description: str) -> list[str]:
    """What of a description is prose."""
    found = re.split(r"(?<=[.;])\s+", " ".join(description.split()))
    is_prose = re.compile(rf"[A-Za-z][A-Za-z,;()'-]*( [A-Za-z,;()'-]+){{{LEAST_WORDS - 1},}}[.;]")
    return [text for text in found if is_prose.fullmatch(text)]
