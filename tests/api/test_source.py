"""The identity of a target that is a function of a script or a notebook."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from neurogen.api.source import dotted_name, source_digest
from neurogen.errors import UserError
from neurogen.targets.networks import lenet

SCRIPT = """
import sys
from math import pi
from neurogen.api.source import dotted_name, source_digest

WIDTHS = [8, 4]
SIZES = {"first": 8, "second": 16, "third": 32, "fourth": 64}
HEIGHT = 7
DEPTHS = [1]

class Layer:
    scale = 2
    def size(self):
        return helper() * self.scale
    @property
    def height(self):
        return HEIGHT
    @property
    def depth(self):
        return DEPTHS

def deep(function):
    depth = DEPTHS[0]
    def inner(*arguments):
        return function(*arguments), depth
    return inner

@deep
def helper():
    return 3

def target(shape, width=5):
    def inner():
        return WIDTHS, SIZES, Layer, pi
    return inner()

print(dotted_name(target), source_digest(target))
"""
NAMES = ("first", "second", "third", "fourth")
UNUSED = "\nOTHER = 5\n\ndef unused():\n    return OTHER\n"


def digest(script: str, folder: Path, hash_seed: int = 0) -> str:
    (folder / "script.py").write_text(script)
    shown = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        check=True,
        capture_output=True,
        text=True,
    )
    name, value = shown.stdout.split()
    assert name == "__main__.target"
    return value


def test_whatever_the_function_uses_counts_and_nothing_else(tmp_path: Path) -> None:
    before = digest(SCRIPT, tmp_path)
    assert digest(SCRIPT + UNUSED, tmp_path) == before
    for old, new in (
        ("[8, 4]", "[8, 5]"),
        ("scale = 2", "scale = 3"),
        *((f'"{name}": {size}', f'"{name}": 5') for name, size in zip(NAMES, (8, 16, 32, 64), strict=True)),
        ("HEIGHT = 7", "HEIGHT = 8"),
        ("DEPTHS = [1]", "DEPTHS = [2]"),
        ("depth = DEPTHS[0]", "depth = DEPTHS[0] + 1"),
        ("return 3", "return 4"),
        ("width=5", "width=6"),
        ("* self.scale", "+ self.scale"),
        ("import pi", "import tau as pi"),
    ):
        assert digest(SCRIPT.replace(old, new), tmp_path) != before, old


def test_comments_and_layout_do_not_count(tmp_path: Path) -> None:
    commented = SCRIPT.replace("    return 3", "    # three\n\n    return (3)").replace("[8, 4]", "[8,\n 4]  # widths")
    assert digest(commented, tmp_path) == digest(SCRIPT, tmp_path)


@pytest.mark.parametrize(
    ("values", "others"),
    [
        ("[64]", "[6, 4]"),
        ("(16, 32)", "(163, 2)"),
        ("[2, 2, 2, 2]", "[22, 22]"),
        ("[[8, 16], 32]", "[[8, 16, 32]]"),
        ("[8, [16], 32]", "[8, [16, 32]]"),
        ("[{1, 2}, 3]", "[{1, 2, 3}]"),
        ("['a', 'b']", "[\"a', 'b\"]"),
        ("[1]", "(1,)"),
        ("[DEPTHS, [1]]", "[DEPTHS, DEPTHS]"),
    ],
)
def test_values_that_are_written_alike_are_told_apart(tmp_path: Path, values: str, others: str) -> None:
    moved = SCRIPT.replace("DEPTHS = [1]\n", "").replace("import sys\n", "import sys\nDEPTHS = [1]\n")
    assert digest(moved.replace("[8, 4]", values), tmp_path) != digest(moved.replace("[8, 4]", others), tmp_path)


def test_a_function_of_a_module_is_known_by_its_name() -> None:
    assert dotted_name(lenet) == "neurogen.targets.networks.lenet"
    assert source_digest(lenet) is None


def test_what_cannot_be_named_is_refused() -> None:
    for function in (lambda shape: None, test_a_function_of_a_module_is_known_by_its_name.__get__(0)):
        with pytest.raises(UserError, match="is not at the top level of a module or a notebook"):
            dotted_name(function)


HELPED = """
import abc
import collections
import dataclasses
import functools
import types
import typing
import torch
import blocks
from blocks import act
from neurogen.api.source import dotted_name, source_digest

T = typing.TypeVar("T")

class Settings:
    def width(self):
        return 8

SETTINGS = Settings()

@dataclasses.dataclass
class Sizes(abc.ABC, typing.Generic[T]):
    height: int = 5

SIZES = Sizes()
JOIN, ADD = str.join, torch.Tensor.add

def louder(function):
    @functools.wraps(function)
    def wrapper(*given):
        return function(*given) * 10
    return wrapper

@louder
def wrapped():
    return 1

@functools.cache
def cached():
    return 1

def helper(number):
    return number

partly = functools.partial(helper, 2)
NAMESPACE = types.SimpleNamespace(activation=helper, inner=[cached])
BY_DEFAULT = collections.defaultdict(lambda: 41)

class Block(torch.nn.Module):
    def forward(self, x):
        return x + 51

BLOCKS = torch.nn.Sequential(Block(), blocks.Block())

@dataclasses.dataclass
class Fields:
    widths: list = dataclasses.field(default_factory=lambda: [61])
    depth: int = dataclasses.field(default=71)
    def first(self):
        return self.widths[0]

first = Fields([81]).first

class Meta(type):
    size = 91

class Made(metaclass=Meta):
    pass

def marked():
    return marked.width

marked.width = 101

def late():
    from blocks import WIDTH
    return WIDTH

ACTS = {"first": lambda x: x.alpha, "second": lambda x: x.beta}; ACT = ACTS["first"]
SCALED = blocks.scaled(121)
SIZED = blocks.sized(131)

class Static:
    method = staticmethod(helper)

class Lazy:
    @functools.cached_property
    def width(self):
        return 141

@functools.singledispatch
def dispatched(value):
    return 151

@dispatched.register
def _(value: int):
    return 161

data = "a dataset of 171 samples"

def target(shape):
    return USED

print(dotted_name(target), source_digest(target))
"""
BLOCKS = """
import torch

WIDTH = 16

def scaled(number):
    def inner(x):
        return number * x
    return inner

def sized(number):
    class Inner:
        size = number
    return Inner

def act():
    return 'relu'

class Block(torch.nn.Module):
    def forward(self, x):
        return x + 111
"""


@pytest.mark.parametrize(
    ("used", "old", "new"),
    [
        ("blocks.act()", "'relu'", "'tanh'"),
        ("blocks.WIDTH", "16", "64"),
        ("act()", "'relu'", "'tanh'"),
        ("cached()", "return 1", "return 2"),
        ("partly()", "return number", "return -number"),
        ("SETTINGS.width()", "return 8", "return 9"),
        ("SIZES.height", "height: int = 5", "height: int = 6"),
        ("(Sizes, JOIN, ADD)", "height: int = 5", "height: int = 6"),
        ("wrapped()", "* 10", "* 20"),
        ("NAMESPACE", "return number", "return -number"),
        ("BY_DEFAULT", "41", "42"),
        ("BLOCKS", "51", "52"),
        ("BLOCKS", "111", "112"),
        ("Fields()", "61", "62"),
        ("Fields()", "71", "72"),
        ("first()", "81", "82"),
        ("first()", "return self.widths[0]", "return self.widths[-1]"),
        ("Made", "91", "92"),
        ("marked()", "101", "102"),
        ("late()", "16", "64"),
        ("ACT", 'ACTS["first"]', 'ACTS["second"]'),
        ("SCALED", "121", "122"),
        ("SIZED", "131", "132"),
        ("Static", "staticmethod", "classmethod"),
        ("Lazy", "141", "142"),
        ("dispatched", "151", "152"),
        ("dispatched", "161", "162"),
    ],
)
def test_what_it_uses_of_helpers_counts(tmp_path: Path, used: str, old: str, new: str) -> None:
    """Of modules beside the script, and of what wraps functions or has methods."""
    script, blocks = HELPED.replace("USED", used), tmp_path / "blocks.py"
    blocks.write_text(BLOCKS)
    before = digest(script, tmp_path)
    assert digest(script, tmp_path) == before
    blocks.write_text(BLOCKS.replace(old, new))
    assert digest(script.replace(old, new), tmp_path) != before


def test_an_attribute_is_no_global_of_the_same_name(tmp_path: Path) -> None:
    script = HELPED.replace("USED", "shape.data")
    (tmp_path / "blocks.py").write_text(BLOCKS)
    assert digest(script, tmp_path) == digest(script.replace("171 samples", "172 samples"), tmp_path)


@pytest.mark.parametrize(
    "kept", ["torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 2))", "torch.empty(2, device='meta')"]
)
def test_what_torch_cannot_copy_is_named(tmp_path: Path, kept: str) -> None:
    (tmp_path / "blocks.py").write_text(BLOCKS)
    (tmp_path / "script.py").write_text(
        HELPED.replace('data = "a dataset of 171 samples"', f"data = {kept}").replace("USED", "data")
    )
    shown = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert "UserError: the target uses a" in shown.stderr.splitlines()[-1]


HOLDING = """
from types import SimpleNamespace
import torch
from neurogen.api.source import dotted_name, source_digest

NAMES = frozenset("abcdefgh")
NESTED = {frozenset({"a", "b"}), frozenset({"c", "d"}), frozenset({"e", "f", "g"}), "h"}
KEPT = SimpleNamespace(names={"a", "b", "c", "d", "e"}, weight=torch.ones(3))
KEPT.inner = {frozenset({"f", "g", "h"}), (torch.nn.ReLU, "i")}

class Node:
    pass

NODE = Node()
NODE.around = {NODE}

def target(shape):
    return NAMES, NESTED, KEPT, NODE

print(dotted_name(target), source_digest(target))
"""


def test_every_process_has_the_same_digest(tmp_path: Path) -> None:
    """Python walks through a set of words in another order in every process, and tensors lie elsewhere."""
    before = digest(HOLDING, tmp_path)
    assert [digest(HOLDING, tmp_path, hash_seed) for hash_seed in (1, 2)] == [before, before]
    changed = HOLDING.replace('"e", "f", "g"})', '"e", "f", "x"})')
    assert digest(changed, tmp_path) != before
