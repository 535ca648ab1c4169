"""What makes a program, or this process, use the server."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from neurogen.data.published_files import PUBLISHED
from tests.outside.published import Published
from tests.outside.web import Web

CHECKOUT = Path(__file__).parents[2]
KNOWN = "TESTS_OUTSIDE_KNOWN"  # a JSON file: by module, attributes of what is in it

# Python runs this before the program, which may import the modules much later, or never.
SITECUSTOMIZE = f"""\
import importlib.abc, importlib.machinery, json, os, sys

known = json.load(open(os.environ["{KNOWN}"]))

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in known:
            return None
        parts = known.pop(name)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            for part, attributes in parts.items():
                for attribute, value in attributes.items():
                    owner = getattr(module, part)
                    owner.update({{attribute: value}}) if isinstance(owner, dict) else setattr(owner, attribute, value)
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


def outside(web: Web, folder: Path, published: Published | None = None) -> dict[str, str]:
    """The variables; what they name is written into `folder`, where caches also are."""
    site = folder / "site"
    site.mkdir(parents=True, exist_ok=True)
    (site / "sitecustomize.py").write_text(SITECUSTOMIZE, encoding="utf-8")
    known: dict[str, object] = {}
    if published is not None:
        known["torchvision.datasets"] = addressed(published.classes, web.address)
        known["neurogen.data.published_files"] = {"PUBLISHED": published.digests}
    (site / "known.json").write_text(json.dumps(known), encoding="utf-8")
    return {
        "HF_ENDPOINT": web.address,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "NEUROGEN_CACHE": str(folder / "cache"),
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join([str(site), str(CHECKOUT), os.environ.get("PYTHONPATH", "")]),
        KNOWN: str(site / "known.json"),
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
    for loader, digests in (published.digests if published else {}).items():
        monkeypatch.setitem(PUBLISHED, loader, digests)
