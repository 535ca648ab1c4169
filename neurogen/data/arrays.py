"""A user's arrays or lists of texts as a dataset, kept in one file that is named by its content.

in:  images as bytes [samples, channels, height, width], or texts; labels 0 … classes − 1; the names of the classes
out: FOLDER/DIGEST.safetensors, and the same splits read back from it

The digest covers all samples, labels and class names, so storing the same arrays twice writes one file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurogen import store
from neurogen.config import DatasetConfig
from neurogen.data.images import resized
from neurogen.data.raw import TEST_FRACTION, Labelled, RawSplits, split_off_test
from neurogen.data.splits import SplitName
from neurogen.errors import UserError


def arrays(config: DatasetConfig) -> RawSplits:
    """The splits in `config.path`, as `store_splits` wrote them.

    Raises UserError where the file is missing, broken, or no longer has the content that its digest stands for.
    """
    if config.path is None:
        raise UserError("dataset.path=null: give the file of stored arrays, root/data/DIGEST.safetensors")
    tensors, about = _read(Path(config.path))
    if _digest(tensors, about["class_names"]) != about["digest"]:
        raise UserError(f"dataset.path={config.path} has been changed; delete the file and store the arrays again")
    splits: dict[str, Labelled] = {name: _labelled(tensors, name) for name in SplitName if f"{name}.labels" in tensors}
    if config.resize is not None and config.text is None:
        splits = {name: Labelled(resized(part.samples, config.resize), part.labels) for name, part in splits.items()}
    class_names = tuple(json.loads(about["class_names"]))
    if "test" not in splits:
        return replace(split_off_test(splits["train"], class_names), validation=splits.get("validation"))
    return RawSplits(splits["train"], splits["test"], class_names, splits.get("validation"))


def relocated(config: DatasetConfig, folder: Path) -> DatasetConfig:
    """The config with what `fit` stored where it lies now, beside the step in `folder`.

    Its path may be relative, or that of a root which has been moved.
    """
    path = Path(config.path or "")
    beside = folder.parent.parent / "data" / path.name
    is_moved = config.load == arrays.__name__ and not path.exists() and beside.exists()
    return replace(config, path=str(beside)) if is_moved else config


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
        store.write_bytes(path, _in_one_order(save(tensors, about)))
    return path


def stored_size(path: Path) -> dict[str, Any] | None:
    """What dataset.size says of a file of stored arrays, by its head alone; None where it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
            num_classes = len(json.loads((file.metadata() or {})["class_names"]))
        num_samples = shapes["train.labels"][0]
    except (OSError, SafetensorError, ValueError, TypeError, LookupError):
        return None  # the loader says what is wrong with it
    image = shapes.get("train.images")
    return size_of_splits(num_samples, set(SplitName) & {name.partition(".")[0] for name in shapes}) | {
        "num_classes": num_classes,
        "image": None if image is None else image[1:],
    }


def size_of_splits(num_samples: int, splits: Collection[str]) -> dict[str, Any]:
    """How many of the samples of train are trained on: where there is no test, a fifth of each class becomes test."""
    num_train = num_samples if "test" in splits else round(num_samples * (1 - TEST_FRACTION))
    return {"num_train": num_train, "validation_is_cut": "validation" not in splits}


def _tensors(split: str, part: Labelled) -> dict[str, NDArray[Any]]:
    """A split as arrays by name; texts as UTF-8, one behind the other, and where each ends."""
    labels = {f"{split}.labels": np.ascontiguousarray(part.labels)}
    if part.samples.dtype != object:
        return labels | {f"{split}.images": np.ascontiguousarray(part.samples)}
    encoded = [text.encode() for text in part.samples]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    return labels | {f"{split}.texts": np.frombuffer(b"".join(encoded), dtype=np.uint8), f"{split}.ends": ends}


def _in_one_order(file: bytes) -> bytes:
    """The same file with its metadata in a fixed order: safetensors writes them in any, and identity is the bytes."""
    start = 8 + int.from_bytes(file[:8], "little")
    head = json.loads(file[8:start])
    head["__metadata__"] = dict(sorted(head["__metadata__"].items()))
    ordered = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    assert len(ordered) <= start - 8, "an order changes no length"
    return file[:8] + ordered.ljust(start - 8) + file[start:]


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
