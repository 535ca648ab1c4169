"""`import neurogen` is quick, and its public names are all there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import neurogen


def test_importing_neurogen_imports_no_torch() -> None:
    code = "import sys, neurogen; dir(neurogen); assert not {'torch', 'numpy', 'hydra'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there_documented_and_completed() -> None:
    assert list(neurogen.__all__) == sorted(neurogen.__all__)
    assert set(neurogen.__all__) == set(neurogen._MODULES) <= set(dir(neurogen))
    for name in neurogen.__all__:
        assert getattr(neurogen, name).__doc__


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(AttributeError, match=r"no attribute lode; public names: .*load, load_zoo"):
        neurogen.lode  # noqa: B018
