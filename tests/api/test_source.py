"""The identity of a target that is a function of a script or a notebook."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from neurogen.api.source import dotted_name, source_digest
from neurogen.errors import UserError
from neurogen.source import module_digest
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


# Each folder's script.py as __main__ of a process of its own, which has the libraries already.
DRIVER = """
import os, sys, types
import torch, neurogen.api.source

for folder in sys.argv[1:]:
    sys.stdout.flush()
    if os.fork() == 0:
        os.chdir(folder)
        sys.path.insert(0, folder)
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        with open("script.py") as file:
            exec(compile(file.read(), os.path.abspath("script.py"), "exec"), vars(main))
        sys.stdout.flush()
        os._exit(0)
    assert os.wait()[1] == 0, folder
"""


def digests(folder: Path, *scripts: str | Mapping[str, str], hash_seed: int = 0) -> list[str]:
    """Those of the functions `target` of these scripts, each with the modules beside it."""
    folders = [folder / f"{hash_seed}-{number}" for number in range(len(scripts))]
    for place, script in zip(folders, scripts, strict=True):
        for name, content in ({"script.py": script} if isinstance(script, str) else script).items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(content)
    shown = subprocess.run(
        [sys.executable, "-c", DRIVER, *map(str, folders)],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        check=True,
        capture_output=True,
        text=True,
    )
    names, values = zip(*(line.split() for line in shown.stdout.splitlines()), strict=True)
    assert set(names) == {"__main__.target"}
    return list(values)


def test_whatever_the_function_uses_counts_and_nothing_else(tmp_path: Path) -> None:
    changes = (
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
    )
    changed = [SCRIPT.replace(old, new) for old, new in changes]
    before, with_unused, *after = digests(tmp_path, SCRIPT, SCRIPT + UNUSED, *changed)
    assert with_unused == before
    assert [change for change, value in zip(changes, after, strict=True) if value == before] == []


def test_comments_and_layout_do_not_count(tmp_path: Path) -> None:
    commented = SCRIPT.replace("    return 3", "    # three\n\n    return (3)").replace("[8, 4]", "[8,\n 4]  # widths")
    assert len(set(digests(tmp_path, commented, SCRIPT))) == 1


def test_values_that_are_written_alike_are_told_apart(tmp_path: Path) -> None:
    moved = SCRIPT.replace("DEPTHS = [1]\n", "").replace("import sys\n", "import sys\nDEPTHS = [1]\n")
    pairs = [
        ("[64]", "[6, 4]"),
        ("(16, 32)", "(163, 2)"),
        ("[2, 2, 2, 2]", "[22, 22]"),
        ("[[8, 16], 32]", "[[8, 16, 32]]"),
        ("[8, [16], 32]", "[8, [16, 32]]"),
        ("[{1, 2}, 3]", "[{1, 2, 3}]"),
        ("['a', 'b']", "[\"a', 'b\"]"),
        ("[1]", "(1,)"),
        ("[DEPTHS, [1]]", "[DEPTHS, DEPTHS]"),
    ]
    values = digests(tmp_path, *(moved.replace("[8, 4]", written) for pair in pairs for written in pair))
    assert [pair for pair, first, second in zip(pairs, values[::2], values[1::2], strict=True) if first == second] == []


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
import pack.inner
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

def inside():
    from pack import inner
    return inner.deep.act()

def tried():
    try:
        import extension, broken
    except (ImportError, SyntaxError):
        return None

ACTS = {"first": lambda x: x.alpha, "second": lambda x: x.beta}; ACT = ACTS["first"]
INNER, SOME = lambda x: (lambda y: y + 181), lambda xs: [x for x in xs if x in {"a", "b", "c", "d191"}]
PICKED, LISTED = blocks.picked("first"), blocks.LAMBDAS["first"]
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

class Registered:
    registry = types.MappingProxyType({})
    size = 201

class class_property(property):
    factor = 211

class Setting(property):
    def __init__(self, getter):
        super().__init__(getter)
        self.default = 251

class Classy:
    @Setting
    def height(self):
        return 5

    @class_property
    def width(self):
        return 221

data = "a dataset of 171 samples"

def target(shape):
    return USED

print(dotted_name(target), source_digest(target))
"""
BLOCKS = """
import torch

WIDTH = 16
LAMBDAS = {"first": lambda x: x + 1, "second": lambda x: x + 2}

def picked(name):
    return {"first": lambda x: x + 1, "second": lambda x: x + 2}[name]

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


MODULES = {
    "blocks.py": BLOCKS,
    "pack/__init__.py": "",
    "pack/inner/__init__.py": "def act():\n    return 231",
    "pack/inner/deep.py": "def act():\n    return 261",
    f"extension{EXTENSION_SUFFIXES[0]}": "no code at all: 241",
    "broken.py": "nor here =",
}


def helped(used: str, old: str = "", new: str = "") -> dict[str, str]:
    """The files of a target that uses this, with another text in them."""
    files = {"script.py": HELPED.replace("USED", used), **MODULES}
    return {name: content.replace(old, new) if old else content for name, content in files.items()}


def test_what_it_uses_of_helpers_counts(tmp_path: Path) -> None:
    """Of modules beside the script, and of what wraps functions or has methods; the same in every process."""
    changes = [
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
        ("INNER", "181", "182"),
        ("SOME", "191", "192"),
        ("PICKED", 'picked("first")', 'picked("second")'),
        ("LISTED", 'LAMBDAS["first"]', 'LAMBDAS["second"]'),
        ("Registered", "201", "202"),
        ("Classy", "211", "212"),
        ("Classy", "221", "222"),
        ("pack.inner.act()", "231", "232"),
        ("tried()", "241", "242"),
        ("Classy", "251", "252"),
        ("inside()", "261", "262"),
        ("SCALED", "121", "122"),
        ("SIZED", "131", "132"),
        ("Static", "staticmethod", "classmethod"),
        ("Lazy", "141", "142"),
        ("dispatched", "151", "152"),
        ("dispatched", "161", "162"),
    ]
    plain = [helped(used) for used, _, _ in changes]
    before = digests(tmp_path, *plain)
    assert digests(tmp_path, *plain, hash_seed=1) == before
    after = digests(tmp_path / "changed", *(helped(*change) for change in changes))
    pairs = zip(changes, before, after, strict=True)
    assert [change for change, first, second in pairs if first == second] == []


def test_a_module_that_was_broken_after_its_import_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs is not what the file says; one that could not be imported at all counts with its bytes."""
    module = tmp_path / "edited_later.py"
    module.write_text("WIDTH = 3")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("edited_later")
    module.write_text("WIDTH =")
    with pytest.raises(UserError, match=r"the target needs .*edited_later.py, which is no valid Python"):
        module_digest("edited_later")
    monkeypatch.delitem(sys.modules, "edited_later")
    assert module_digest("edited_later")


def test_an_attribute_is_no_global_of_the_same_name(tmp_path: Path) -> None:
    assert len(set(digests(tmp_path, helped("shape.data"), helped("shape.data", "171 samples", "172 samples")))) == 1


@pytest.mark.parametrize(
    "kept", ["torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 2))", "torch.empty(2, device='meta')"]
)
def test_what_torch_cannot_copy_is_named(tmp_path: Path, kept: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        digests(tmp_path, helped("data", '"a dataset of 171 samples"', kept))
    assert "UserError: the target uses a" in caught.value.stderr


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
    changed = HOLDING.replace('"e", "f", "g"})', '"e", "f", "x"})')
    before, after = digests(tmp_path, HOLDING, changed)
    assert [digests(tmp_path, HOLDING, hash_seed=hash_seed) for hash_seed in (1, 2)] == [[before], [before]]
    assert after != before
