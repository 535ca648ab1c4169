"""What makes a program, or this process, use the server."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.outside.published import Published
from tests.outside.web import Web

CHECKOUT = Path(__file__).parents[2]
CLASSES = "TESTS_OUTSIDE_CLASSES"  # a JSON file: attributes of torchvision's classes

# Python runs this before the program; torchvision may be imported much later, or never.
SITECUSTOMIZE = f"""\
import importlib.abc, importlib.machinery, json, os, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "torchvision.datasets":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            for cls, attributes in json.load(open(os.environ["{CLASSES}"])).items():
                for attribute, value in attributes.items():
                    setattr(getattr(module, cls), attribute, value)
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


def outside(web: Web, folder: Path, published: Published | None = None) -> dict[str, str]:
    """The variables; what they name is written into `folder`, where caches also are."""
    site = folder / "site"
    site.mkdir(parents=True, exist_ok=True)
    (site / "sitecustomize.py").write_text(SITECUSTOMIZE, encoding="utf-8")
    classes = addressed(published.classes, web.address) if published else {}
    (site / "classes.json").write_text(json.dumps(classes), encoding="utf-8")
    return {
        "HF_ENDPOINT": web.address,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "NEUROGEN_CACHE": str(folder / "cache"),
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join([str(site), str(CHECKOUT), os.environ.get("PYTHONPATH", "")]),
        CLASSES: str(site / "classes.json"),
    }


def addressed(value: object, address: str) -> object:
    """Every path of the server in these attributes, with the server's address."""
    if isinstance(value, dict):
        return {key: addressed(item, address) for key, item in value.items()}
    if isinstance(value, list):
        return [addressed(item, address) for item in value]
    return f"{address}{value}" if isinstance(value, str) and value.startswith("/") else value


def use_here(web: Web, folder: Path, monkeypatch: pytest.MonkeyPatch, published: Published | None = None) -> None:
    """The same for this process, whose libraries have read their environment already."""
    from huggingface_hub import constants
    from torchvision import datasets

    for name in ("HF_HOME", "NEUROGEN_CACHE", "NO_PROXY"):
        monkeypatch.setenv(name, outside(web, folder, published)[name])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", web.address)
    template = web.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    for name, attributes in (published.classes if published else {}).items():
        for attribute, value in attributes.items():
            monkeypatch.setattr(getattr(datasets, name), attribute, addressed(value, web.address))
