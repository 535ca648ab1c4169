"""A target that is a function of the user's own: its name for the config, and a digest of what it is made of.

in:  a function (DataShape) → torch.nn.Module, defined at the top level of a module, a script or a notebook
out: its dotted name; for a function of a script or a notebook a digest as well, of its source and of everything that it
     uses: of the same script or notebook, and of modules of the user's own

An edited cell, or an edited helper module, therefore gives another digest, and a new result. Comments and layout do not
count. What is installed is known by its name.

Values are written as a sequence of texts that no other values give: every text stands behind its length, and whatever
holds others ends in a mark.
"""

from __future__ import annotations

import ast
import dis
import hashlib
import inspect
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial, singledispatch, singledispatchmethod
from textwrap import dedent
from types import CellType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

from neurogen import source
from neurogen.api.content import content_digest
from neurogen.config import TargetConfig
from neurogen.errors import UserError, one_line

MAIN = "__main__"
FOLLOWS = (  # what a class has because of all else that it has
    *("__dict__", "__weakref__", "__module__", "__firstlineno__", "__dataclass_fields__", "__dataclass_params__"),
    *("__match_args__", "__abstractmethods__", "_abc_impl", "__orig_bases__", "__parameters__"),
)
WRAPPED: dict[type, Callable[[Any], Any]] = {  # what an object is made of that only wraps others
    staticmethod: lambda value: value.__func__,
    classmethod: lambda value: value.__func__,
    property: lambda value: [value.fget, value.fset, value.fdel],
    cached_property: lambda value: value.func,  # before Python 3.12 it also holds a lock
    singledispatchmethod: lambda value: value.dispatcher,
    MethodType: lambda value: [value.__func__, value.__self__],
    MappingProxyType: dict,
    partial: lambda value: [value.func, value.args, value.keywords],
}
OF_WRAPPERS = {"func", "attrname", "lock", "dispatcher"}  # attributes that the wrappers above set themselves
DISPATCHER: Any = singledispatch(len)  # all functions that singledispatch makes have the same code
MADE = {"<locals>", "<lambda>"}  # in the names of functions and classes that no module has by these names
GLOBAL_NAMES = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}  # and not names of attributes
ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD"}
STORES = {"STORE_FAST", "STORE_DEREF", "STORE_NAME", "STORE_GLOBAL"}
LOADS = {"LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW", "LOAD_DEREF", "LOAD_CLASSDEREF"}
PLAIN = (bool, int, float, complex, str, bytes, type(None))
END = "end"  # no text of a plain value, which has quotes where it is a str

Seen = dict[int, tuple[int, object]]  # by id: how many came before, and the object itself


def dotted_name(function: Callable[..., Any]) -> str:
    """MODULE.FUNCTION. Raises UserError for a function that cannot be found again by such a name."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if module is None or name is None or getattr(sys.modules.get(module), name, None) is not function:
        raise UserError(
            f"target={name or function!r} is not at the top level of a module or a notebook; define it there with def, "
            "without a lambda and outside of other functions"
        )
    return f"{module}.{name}"


def source_digest(function: Callable[..., Any]) -> str | None:
    """16 hexadecimal digits for a function or a class of __main__, None for any other one.

    Raises UserError where the source cannot be read, as of functions typed at Python's own prompt.
    """
    if function.__module__ != MAIN:
        return None
    return _hashed(_parts(function, {}))[:16]


def require_same_source(target: TargetConfig) -> None:
    """Raises UserError where a target of __main__ is gone, or is not what it was in training."""
    module, _, name = target.build.rpartition(".")
    if module != MAIN or target.version is None:
        return
    function = getattr(sys.modules[MAIN], name, None)
    if function is None or source_digest(function) != target.version:
        state = "is not defined here" if function is None else "has been edited since"
        raise UserError(f"this was trained with the target {target.build}, which {state}; define it as it was")


def _hashed(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode("utf-8", "surrogatepass")
        digest.update(f"{len(content)} ".encode() + content)
    return digest.hexdigest()


def _parts(value: Any, seen: Seen) -> Iterator[str]:
    """What `value` consists of, as texts in a fixed order: sources of __main__, plain values, names of all else."""
    if isinstance(value, PLAIN):
        yield repr(value)
    elif id(value) in seen:
        yield f"again {seen[id(value)][0]}"
    else:
        # kept alive, since Python gives the place of what is gone to the next object
        seen[id(value)] = len(seen), value
        yield from _inside(value, seen)
        yield END


def _inside(value: Any, seen: Seen) -> Iterator[str]:
    if type(value) in (set, frozenset):  # in an order that is the same in every process
        yield type(value).__name__
        for parts in sorted([*_parts(member, dict(seen))] for member in value):
            yield from parts
    elif type(value) in (list, tuple, dict):
        yield type(value).__name__
        for member in value.items() if isinstance(value, dict) else value:
            yield from _parts(member, seen)
    elif kind := next((base for base in type(value).__mro__ if base in WRAPPED), None):
        yield from _parts([type(value), WRAPPED[kind](value), _attributes(value)], seen)
    elif isinstance(value, FunctionType) and value.__code__ is DISPATCHER.__code__:  # calls fill its cache
        yield from _parts(vars(value)["registry"], seen)
    elif isinstance(value, FunctionType) and value.__module__ == MAIN:
        yield from _parts_of_function(value, seen)
    elif isinstance(value, type) and value.__module__ == MAIN:
        yield from _parts_of_class(value, seen)
    elif isinstance(value, ModuleType):
        yield _named(value.__name__, "")
    elif hasattr(value, "__wrapped__"):  # functools.cache and the like
        yield type(value).__name__
        yield from _parts(value.__wrapped__, seen)
    elif hasattr(value, "__qualname__"):
        yield _named(getattr(value, "__module__", None) or "", value.__qualname__)
        if any(mark in value.__qualname__ for mark in MADE):  # as another one of the same module may be called
            yield from _parts(_kept_by(value), seen)
            if isinstance(value, FunctionType):
                yield repr(_instructions(value.__code__))
    else:
        yield from _parts(type(value), seen)
        yield _pickled(value, seen)


def _parts_of_class(value: type, seen: Seen) -> Iterator[str]:
    yield value.__qualname__
    yield from _parts([type(value), *value.__bases__], seen)
    fields = vars(value).get("__dataclass_fields__", {})
    yield from _parts({name: [field.default, field.default_factory] for name, field in fields.items()}, seen)
    for name, attribute in sorted(vars(value).items()):
        if name not in FOLLOWS and not _is_generated(attribute):
            yield name
            yield from _parts(attribute, seen)


def _attributes(value: Any) -> dict[str, Any]:
    """What an object that wraps others has beside them, as a subclass or a partial may."""
    attributes = getattr(value, "__dict__", {}) if not isinstance(value, MethodType) else {}
    return {name: part for name, part in sorted(attributes.items()) if name not in OF_WRAPPERS and name[:2] != "__"}


def _is_generated(attribute: object) -> bool:
    """A method that dataclasses made of the fields: it has no source."""
    function = inspect.unwrap(attribute) if callable(attribute) else attribute
    return isinstance(function, FunctionType) and function.__code__.co_filename == "<string>"


def _named(module: str, name: str) -> str:
    """Something of a module, by its name; where the module is the user's own, with the digest of its source."""
    spec = source.top_level_spec(module.partition(".")[0]) if module else None
    is_own = spec is not None and module != MAIN and source.is_own(spec)
    return f"{module}.{name} {source.module_digest(module) if is_own else ''}"


def _pickled(value: Any, seen: Seen) -> str:
    """An array, a tensor or any other object by its content; functions and classes in it as everywhere here."""
    try:
        return content_digest(value, lambda member: _hashed(_parts(member, dict(seen))))
    except (pickle.PicklingError, TypeError, AttributeError, RuntimeError) as error:  # RuntimeError: of torch
        raise UserError(
            f"the target uses a {type(value).__name__} whose content cannot be told ({one_line(error)}); create it "
            "inside of the function"
        ) from error


def _parts_of_function(function: FunctionType, seen: Seen) -> Iterator[str]:
    yield _code(function)
    if function.__globals__.get("__name__") != MAIN:  # a wrapper out of a module, with the name of what it wraps
        yield _named(str(function.__globals__.get("__name__")), function.__code__.co_qualname)
    if function.__name__ == "<lambda>":  # a line may hold several, and the source is that of the whole line
        yield repr(_instructions(function.__code__))
    yield from _parts(_kept_by(function), seen)
    for name in sorted(_names(function.__code__)):
        if name in function.__globals__:
            yield name
            yield from _parts(function.__globals__[name], seen)
    for name in sorted(_modules(function)):
        yield _named(name, "")


def _kept_by(made: Any) -> list[Any]:
    """What a function or a class keeps beside its source: default values, variables around it, attributes."""
    if isinstance(made, FunctionType):
        return [made.__defaults__, made.__kwdefaults__, [*map(_content_of, made.__closure__ or ())], vars(made)]
    attributes = vars(made) if isinstance(made, type) else {}
    return [(name, value) for name, value in sorted(attributes.items()) if name not in FOLLOWS]


def _content_of(cell: CellType) -> Any:
    """None where nothing has been put into it yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _code(function: FunctionType) -> str:
    """The source without comments and layout. Raises UserError where it cannot be read."""
    try:
        text = dedent(inspect.getsource(function.__code__))  # of itself, also where functools.wraps names another
    except OSError as error:
        raise UserError(
            f"the source of target={function.__qualname__} cannot be read ({error}); define it in a file or a notebook"
        ) from error
    try:
        return ast.dump(ast.parse(text))
    except SyntaxError:  # a piece of a statement, such as a lambda on a line of its own
        return text


def _names(code: CodeType) -> set[str]:
    """The global names that a function uses, those of its inner functions too."""
    return {step.argval for part in _codes(code) for step in dis.get_instructions(part) if step.opname in GLOBAL_NAMES}


def _modules(function: FunctionType) -> set[str]:
    """The modules that a function imports when it is called, or reaches through a package, as far as they are there."""
    names, variables, package, bound = set[str](), dict[str, str](), "", ""
    for step in (step for part in _codes(function.__code__) for step in dis.get_instructions(part)):
        if step.opname == "IMPORT_NAME":
            package, bound = step.argval, step.argval.partition(".")[0]  # `import a.b` gives a
            names.add(package)
        elif step.opname == "IMPORT_FROM":  # several may follow each other
            bound = f"{package}.{step.argval}"
            names.add(bound)
        elif step.opname in STORES and bound:
            variables[step.argval], bound = bound, ""
        elif step.opname in LOADS:
            package = variables.get(step.argval, "")
        elif step.opname in GLOBAL_NAMES:
            value = function.__globals__.get(step.argval)
            package = value.__name__ if isinstance(value, ModuleType) else variables.get(step.argval, "")
        elif step.opname in ATTRIBUTES and package:
            package = f"{package}.{step.argval}"
            names.add(package)
    return {name for name in names if name and len(source.specs_along(name)) == len(name.split("."))}


def _instructions(code: CodeType) -> list[Any]:
    """What a function does, by Python's instructions: without places in files and in memory, sets in one order."""
    return [(step.opname, _argument(step)) for step in dis.get_instructions(code)]


def _argument(step: dis.Instruction) -> Any:
    if isinstance(step.argval, CodeType):
        return _instructions(step.argval)
    return sorted(map(repr, step.argval)) if isinstance(step.argval, frozenset) else step.argrepr


def _codes(code: CodeType) -> Iterator[CodeType]:
    """That of a function and of all functions inside of it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
