"""CIFAR-10, whose publishers pickled it, read without calling what a pickle may name.

in:  the folder with their files
out: torchvision's CIFAR10 with pixels and labels; of a pickle only arrays and plain values are made
"""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from torchvision.datasets import CIFAR10, VisionDataset

ARRAYS = {
    *(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")),
    *("numpy.ndarray", "numpy.dtype", "_codecs.encode"),
}
SHAPE = 3, 32, 32


class ArraysOnly(pickle.Unpickler):  # noqa: S301  (it calls nothing)
    """Makes arrays and plain values of a pickle."""

    def find_class(self, module: str, name: str) -> Any:
        """Raises RuntimeError for all that arrays do not consist of."""
        if f"{module}.{name}" not in ARRAYS:
            raise RuntimeError(f"a pickle that asks for {module}.{name}")
        return super().find_class(module, name)


class PlainCIFAR10(CIFAR10):  # type: ignore[misc]  # torchvision has no types
    """A split of the dataset. Raises RuntimeError where files are missing, or not those that were published."""

    def __init__(self, root: str, train: bool, download: bool) -> None:
        VisionDataset.__init__(self, root)
        assert not download  # that is not torchvision's part here
        batches = [self._read(name, digest) for name, digest in (self.train_list if train else self.test_list)]
        pixels = np.concatenate([batch["data"] for batch in batches]).reshape(-1, *SHAPE)
        self.data = pixels.transpose(0, 2, 3, 1)
        self.targets = [label for batch in batches for label in batch["labels"]]

    def _read(self, name: str, digest: str) -> Any:
        path = Path(self.root) / self.base_folder / name
        if not path.is_file():
            raise RuntimeError(f"{path} is missing")
        content = path.read_bytes()
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != digest:
            raise RuntimeError(f"{path} is not the file that was published")
        return ArraysOnly(io.BytesIO(content), encoding="latin1").load()
