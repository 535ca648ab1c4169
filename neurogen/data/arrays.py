"""A user's arrays or lists of texts as a dataset, kept in one file that is named by its content.

in:  images as bytes [samples, channels, height, width], or texts; labels 0 … classes − 1; the names of the classes
out: FOLDER/DIGEST.safetensors, and the same splits read back from it

The digest covers all samples, labels and class names, so storing the same arrays twice writes one file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurogen import store
from neurogen.config import DatasetConfig
from neurogen.data.images import resized
from neurogen.data.pictures import pixels_in_memory
from neurogen.data.raw import Labelled, RawSplits, split_off_test
from neurogen.errors import UserError

SPLITS = ("train", "validation", "test")
CHANNELS = (1, 3)


def arrays(config: DatasetConfig) -> RawSplits:
    """The splits in `config.path`, as `store_splits` wrote them.

    Raises UserError where the file is missing, broken, or no longer has the content that its digest stands for.
    """
    if config.path is None:
        raise UserError("dataset.path=null: give the file of stored arrays, root/data/DIGEST.safetensors")
    tensors, about = _read(Path(config.path))
    if _digest(tensors, about["class_names"]) != about["digest"]:
        raise UserError(f"dataset.path={config.path} has been changed; delete the file and store the arrays again")
    splits = {name: _labelled(tensors, name) for name in SPLITS if f"{name}.labels" in tensors}
    if config.resize is not None and config.text is None:
        splits = {name: Labelled(resized(part.samples, config.resize), part.labels) for name, part in splits.items()}
    class_names = tuple(json.loads(about["class_names"]))
    if "test" not in splits:
        return replace(split_off_test(splits["train"], class_names), validation=splits.get("validation"))
    return RawSplits(splits["train"], splits["test"], class_names, splits.get("validation"))


def store_splits(splits: Mapping[str, Labelled], class_names: tuple[str, ...], folder: Path) -> Path:
    """Write `train`, and where they are given `validation` and `test`, into one file of `folder`; returns its path.

    Nothing is written where the file is there already. Raises UserError where it cannot be written.
    """
    from safetensors.numpy import save

    tensors = {name: array for split, part in splits.items() for name, array in _tensors(split, part).items()}
    names = json.dumps(class_names)
    digest = _digest(tensors, names)
    path = folder / f"{digest[:16]}.safetensors"
    if not path.exists():
        about = {"class_names": names, "digest": digest}
        store.write_bytes(path, save(tensors, about))
    return path


def as_bytes(images: Any, what: str = "the images") -> NDArray[np.uint8]:
    """Images as bytes [samples, channels, height, width].

    `images` is an array, a tensor or a list of arrays: bytes from 0 to 255 (uint8), or floats from 0 to 1, which are
    rounded to bytes. [samples, height, width] are grey images. A list may hold pictures of Pillow.

    Raises UserError for other values, other shapes, and images of different sizes.
    """
    pixels = _array(images, what)
    if pixels.size == 0:
        raise UserError(f"{what} are empty, of the shape {list(pixels.shape)}; give at least one")
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    if pixels.ndim != 4:
        raise UserError(
            f"{what} have the shape {list(pixels.shape)}; give [samples, channels, height, width], or "
            "[samples, height, width] for grey images"
        )
    if pixels.shape[1] not in CHANNELS and pixels.shape[3] in CHANNELS:
        raise UserError(
            f"{what} have the shape {list(pixels.shape)}, with the channels last; give "
            "[samples, channels, height, width]: images.transpose(0, 3, 1, 2)"
        )
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise UserError(f"{what} have the type {pixels.dtype}; give bytes from 0 to 255 (uint8), or floats from 0 to 1")
    if not (pixels.min() >= 0 and pixels.max() <= 1):  # false for NaN too
        raise UserError(
            f"{what} are floats from {pixels.min():g} to {pixels.max():g}; give floats from 0 to 1, or bytes from 0 "
            "to 255 (uint8)"
        )
    return np.ascontiguousarray(np.rint(pixels * 255).astype(np.uint8))


def as_list(labels: Any) -> list[Any]:
    """Labels in an array, a tensor or a list, as Python's own numbers and strings."""
    values = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    return [value.item() if hasattr(value, "item") else value for value in values]


def _array(images: Any, what: str) -> NDArray[Any]:
    """One array of all images. Pictures of Pillow are read as files with them would be."""
    if isinstance(images, (list, tuple)):
        if images and all(hasattr(image, "getbands") for image in images):
            parts: list[NDArray[Any]] = list(pixels_in_memory(images))
        else:
            parts = [np.asarray(image) for image in images]
        shapes = sorted({part.shape for part in parts})
        if len(shapes) != 1:
            listed = " and ".join(str(list(shape)) for shape in shapes[:2]) or "nothing"
            raise UserError(f"{what} must have one size and one number of channels; there are {listed}")
        return np.stack(parts)
    return np.asarray(images.detach().cpu() if hasattr(images, "detach") else images)


def _tensors(split: str, part: Labelled) -> dict[str, NDArray[Any]]:
    """A split as arrays by name; texts as UTF-8, one behind the other, and where each ends."""
    labels = {f"{split}.labels": np.ascontiguousarray(part.labels)}
    if part.samples.dtype != object:
        return labels | {f"{split}.images": np.ascontiguousarray(part.samples)}
    encoded = [text.encode() for text in part.samples]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    return labels | {f"{split}.texts": np.frombuffer(b"".join(encoded), dtype=np.uint8), f"{split}.ends": ends}


def _labelled(tensors: dict[str, NDArray[Any]], split: str) -> Labelled:
    """The inverse of `_tensors`."""
    labels = tensors[f"{split}.labels"]
    if f"{split}.images" in tensors:
        return Labelled(tensors[f"{split}.images"], labels)
    content, ends = tensors[f"{split}.texts"].tobytes(), tensors[f"{split}.ends"].tolist()
    starts = [0, *ends[:-1]]
    return Labelled.of([content[start:end].decode() for start, end in zip(starts, ends, strict=True)], labels)


def _digest(tensors: dict[str, NDArray[Any]], class_names: str) -> str:
    digest = hashlib.sha256(class_names.encode())
    for name, array in sorted(tensors.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    from safetensors.numpy import load_file

    about = _metadata(path)
    return load_file(path), about


def _metadata(path: Path) -> dict[str, str]:
    """What `store_splits` noted: `digest` of the content, and `class_names` as JSON.

    Raises UserError where the file is missing or is no file of stored arrays.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise UserError(f"dataset.path={path} cannot be read ({error}); store the arrays again") from error
    if not {"digest", "class_names"} <= set(metadata):
        raise UserError(f"dataset.path={path} is no file of stored arrays; give root/data/DIGEST.safetensors")
    return metadata
