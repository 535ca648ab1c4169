"""Modules that were imported before their files were edited: what runs is then not what the file says.

in:  a module's name and its source as it is now
out: a refusal, where this process has an older version of it

A notebook keeps modules for days. A result would get the identity of the new file and be made by the old code.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from types import CodeType, FunctionType, ModuleType

from neurogen.errors import UserError

_FIRST_SEEN: dict[str, tuple[object, str]] = {}  # module → its import, and the source that it was first seen with


def require_as_loaded(name: str, path: str, tree: ast.Module) -> None:
    """Raises UserError where module `name` is loaded, and `tree` is no longer what it was loaded from.

    Its functions and methods are compared, and the whole source with that of the first time this was asked.
    """
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    if module is None or type(getattr(spec, "loader", None)) is not SourceFileLoader:
        return  # import hooks compile something else than the file
    text = ast.dump(tree)
    seen_spec, seen = _FIRST_SEEN.setdefault(name, (spec, text))
    if seen_spec is not spec:  # it was loaded again
        _FIRST_SEEN[name] = spec, text
        seen = text
    written = dict(_functions_in(compile(tree, path, "exec", dont_inherit=True)))
    loaded = {function.__qualname__: _comparable(function.__code__) for function in _functions_of(module)}
    if seen != text or any(written.get(qualified, code) != code for qualified, code in loaded.items()):
        raise UserError(
            f"{path} was edited after this process had imported it; restart the notebook's kernel (or the program), or "
            f"importlib.reload({name}), so that what runs is what the file says"
        )


def _functions_in(code: CodeType) -> Iterator[tuple[str, CodeType]]:
    """(qualified name, code) of all functions of a compiled module, and of its classes' bodies."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant.co_qualname, _comparable(constant)
            yield from _functions_in(constant)


def _functions_of(module: ModuleType) -> Iterator[FunctionType]:
    """The functions of a module, and those of its classes."""
    for value in vars(module).values():
        members = vars(value).values() if isinstance(value, type) and value.__module__ == module.__name__ else (value,)
        for member in members:
            function = inspect.unwrap(member) if callable(member) else member
            if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                yield function


def _comparable(code: CodeType) -> CodeType:
    """Without what another place in a file changes."""
    constants = tuple(_comparable(item) if isinstance(item, CodeType) else item for item in code.co_consts)
    return code.replace(co_firstlineno=1, co_linetable=b"", co_filename="", co_consts=constants)
