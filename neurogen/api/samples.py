"""What a user hands over as samples and labels → what a generator and a target network read.

in:  images (arrays, tensors, lists of pictures) or texts (a list of strings); labels as whole numbers or class names
out: bytes [samples, channels, height, width] or token ids [samples, tokens]; labels 0 … classes − 1
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from neurogen.api.data import texts_of
from neurogen.config import DatasetConfig
from neurogen.data.dataset import Split
from neurogen.data.images import read_labelled, resized
from neurogen.data.images_in_memory import CHANNELS, as_bytes
from neurogen.data.labels import Classes, numbered
from neurogen.data.labels_in_memory import as_list, indices_of
from neurogen.data.pictures import scaled
from neurogen.data.preparation import DataShape, ImageShape, Normalisation, Texts, TokenEmbedding
from neurogen.data.records import MissingColumns
from neurogen.data.texts import read_table
from neurogen.errors import UserError, advising
from neurogen.stages.embed import text_split, token_ids


@dataclass(frozen=True)
class SampleReader:
    """Reads samples and labels of one dataset's kind, whoever made them."""

    dataset: DatasetConfig
    shape: DataShape
    class_names: tuple[str, ...]
    preparation: Normalisation | TokenEmbedding
    tokenizer: Any = None  # None for images
    tokenizer_name: str | None = None  # OWNER/NAME on the Hub, where it is there
    source_labels: tuple[str, ...] | None = None  # how tables write each class; None: by its name or its number

    def samples(self, given: Any) -> UInt8[Tensor, "samples channels height width"] | Int64[Tensor, "samples tokens"]:
        """Images as bytes, or texts as token ids padded with −1. A tensor of token ids is taken as it is.

        Where dataset.resize is set, images are resized as the training data was. Raises UserError for images of another
        form or other values, and for what is no list of texts.
        """
        if isinstance(self.shape, ImageShape):
            return self._images(given)
        if isinstance(given, Tensor) and given.ndim == 2 and len(given) and not given.is_floating_point():
            return given.long()
        return self._texts(given)[:]

    def labels(self, given: Any) -> NDArray[np.int64]:
        """Labels as the numbers of their classes. Words are names of classes.

        Whole numbers mean what they meant in training: where the names of the classes are whole numbers they are these
        names, and where tables wrote numbers they are those; otherwise the first class is 0.
        Raises UserError for a label that is no class of this dataset.
        """
        classes = Classes(self.class_names, self.source_labels)
        return np.array(indices_of(as_list(given, "labels="), classes, "labels="), dtype=np.int64)

    def split(self, samples: Any, labels: Any) -> Split:
        """Samples with their labels, prepared as the training data was. Raises UserError as the two above do."""
        return self._split(samples, self.labels(labels))

    def read(self, path: Path) -> Split:
        """Samples of a folder of pictures, PATH/CLASS/*.png, or of a table of texts with their labels.

        Raises UserError where there are none, or other classes.
        """
        if isinstance(self.shape, ImageShape):
            if self.shape.channels not in CHANNELS:
                raise UserError(
                    f"{path}: {self.dataset.name} has images of {self.shape.channels} channels, and pictures have 1 or "
                    "3; give arrays from Python: generator.generate(images, labels)"
                )
            labelled, notes = read_labelled(path, self.class_names, self.shape.channels, self.shape.size)
            for note in notes:
                print(f"{path}: {note}", file=sys.stderr)
            return self._split(labelled.samples, labelled.labels)
        assert self.dataset.text is not None
        with advising(MissingColumns, f"call them as {self.dataset.name} does, whose columns are read"):
            table = read_table(path, self.dataset.text)
        labels, classes = table.labels, Classes(self.class_names, self.source_labels)
        if table.class_names is not None:  # numbers of classes that the file itself names
            indices = numbered(table.class_names).indices(labels, str(path))
            labels = [table.class_names[index] for index in indices]
            classes = Classes(self.class_names, self.class_names)
        return self._split(table.texts, np.array(classes.indices(labels, str(path)), dtype=np.int64))

    def _split(self, samples: Any, numbers: NDArray[np.int64]) -> Split:
        """Samples with the numbers of their classes."""
        read = self._images(samples) if isinstance(self.shape, ImageShape) else self._texts(samples)
        if len(read) != len(numbers):
            raise UserError(f"there are {len(read):,} samples and {len(numbers):,} labels; give as many of both")
        return Split(read, torch.from_numpy(numbers), self.preparation)

    def _images(self, given: Any) -> UInt8[Tensor, "samples channels height width"]:
        assert isinstance(self.shape, ImageShape)
        channels, size = self.shape.channels, self.shape.size
        are_pictures = self.dataset.load == "image_folder"
        images = as_bytes(given, channels=channels, size=size if are_pictures else None)
        is_other_size = images.shape[1] == channels and images.shape[2:] != size
        if self.dataset.resize is not None and is_other_size:  # as the training data was
            images = scaled(images, size) if are_pictures else resized(images, self.dataset.resize)
        if images.shape[1:] != (channels, *size):
            raise UserError(
                f"the images are {list(images.shape[1:])} (channels, height, width), and {self.dataset.name} has "
                f"{[channels, *size]}; give images of this form"
            )
        return torch.from_numpy(images)

    def _texts(self, given: Any) -> Texts:
        given = texts_of(given)
        if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(x, str) for x in given):
            raise UserError(f"samples of {self.dataset.name} are texts; give a list of strings")
        if not given:
            raise UserError(f"samples of {self.dataset.name} are an empty list; give at least one text")
        assert isinstance(self.preparation, TokenEmbedding)
        ids = token_ids(list(given), self.tokenizer)
        split = text_split(ids, np.zeros(len(ids), dtype=np.int64), self.dataset, self.preparation)
        assert isinstance(split.samples, Texts)
        return split.samples
