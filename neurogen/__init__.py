"""NeuroGen: language models that generate the parameters of neural networks.

    generator = neurogen.load("runs/tune/FOLDER")
    network = generator.generate(images, labels)

`import neurogen` is quick: a name is imported when it is first used, and torch with it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurogen.api.classifier import Classifier
    from neurogen.api.data import Data
    from neurogen.api.fit import fit
    from neurogen.api.generator import LoadedGenerator, load
    from neurogen.api.run import Run
    from neurogen.api.zoo import LoadedZoo, load_zoo
    from neurogen.errors import UserError

__all__ = ["Classifier", "Data", "LoadedGenerator", "LoadedZoo", "Run", "UserError", "fit", "load", "load_zoo"]

_MODULES = {
    "Classifier": "neurogen.api.classifier",
    "Data": "neurogen.api.data",
    "LoadedGenerator": "neurogen.api.generator",
    "LoadedZoo": "neurogen.api.zoo",
    "Run": "neurogen.api.run",
    "UserError": "neurogen.errors",
    "fit": "neurogen.api.fit",
    "load": "neurogen.api.generator",
    "load_zoo": "neurogen.api.zoo",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module (PEP 562). Raises AttributeError for any other name."""
    if name == "__version__":
        return version("neurogen")
    if name not in _MODULES:
        raise AttributeError(f"module neurogen has no attribute {name}; public names: {', '.join(__all__)}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value  # the next use finds it without this function
    return value


def __dir__() -> list[str]:
    """The public names, for completion."""
    return [*__all__, "__doc__", "__file__", "__name__", "__path__", "__version__"]
