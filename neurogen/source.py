"""The source of a user's own function, which is a part of the identity of what it makes.

in:  the dotted name of a loader or of a builder of networks
out: a digest of its module, and of all modules that this one imports from the user's own packages

The user's own is what is not installed: no part of Python, of this program, or of site-packages. Comments and layout do
not count. An import that is made by name, through importlib, is not seen. Of an installed package all modules count.
`version` in the YAML file of the dataset or target takes the place of the digest.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

from neurogen.digests import digests
from neurogen.errors import UserError
from neurogen.loaded import require_as_loaded

OURS = ("neurogen", "hpc", "hydra_plugins")
INSTALLED = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]
PACKAGES = {"site-packages", "dist-packages"}  # also of a user, of a module of the site
MAIN = "__main__"
MODULES = (".py", *EXTENSION_SUFFIXES)


def source_digest(key: str, name: str) -> str | None:
    """16 hexadecimal digits for a function of the user's own, MODULE.FUNCTION; None for a built-in, and for a function
    of a script or a notebook, whose `version` tells.

    `key` is where the config names it. Raises UserError where there is no such module, or no source of it.
    """
    module, _, _ = name.rpartition(".")
    package = module.split(".")[0]
    if not module or package in (MAIN, *OURS):
        return None
    spec = top_level_spec(package)
    if spec is None:
        raise UserError(f"{key}={name} is no importable function: there is no module {package}")
    if is_installed(spec):
        return _digest(package_parts(spec))
    return _digest({module: ast.dump(tree) for module, tree in modules_of(key, name).items()})


def module_digest(module: str) -> str:
    """The same of a whole module of the user's own, which a notebook uses. What of it has no Python source counts with
    its bytes, since there is no YAML file for a `version`."""
    return _digest({name: ast.dump(tree) for name, tree in modules_of(None, f"{module}.").items()})


def _digest(parts: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for part, content in parts.items():
        digest.update(f"{part} {content}\n".encode())
    return digest.hexdigest()[:16]


def package_parts(spec: ModuleSpec) -> dict[str, str]:
    """The digests of all modules of an installed package, by their files."""
    if spec.submodule_search_locations is None:
        return {spec.name: digests(Path(spec.origin or ""), [""])[0]}
    parts: dict[str, str] = {}
    for folder in map(Path, spec.submodule_search_locations):
        names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name.endswith(MODULES))
        parts |= dict(zip(names, digests(folder, names), strict=True))
    return parts


def modules_of(key: str | None, name: str) -> dict[str, ast.Module]:
    """The module of a function and all own ones that it imports, in the order of their names, parsed.

    Without a key no config names the function. Raises UserError as `source_digest` does.
    """
    module = name.rpartition(".")[0]
    parsed = dict[str, ast.Module]()
    waiting = [module]
    while waiting:
        for spec in specs_along(waiting.pop()):
            if spec.name in parsed or not is_own(spec):
                continue
            parsed[spec.name] = tree = source_of(spec, key, name)
            waiting += imports_of(tree, spec)
    if module not in parsed and not (key is None and parsed):  # a package may say that what it has lies elsewhere
        raise UserError(f"{key or 'target'}={name} is no importable function: there is no module {module}")
    return dict(sorted(parsed.items()))


def specs_along(name: str) -> list[ModuleSpec]:
    """The specs of a, a.b and a.b.c, as far as they are there. Nothing is imported."""
    specs: list[ModuleSpec] = []
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        inner = ".".join(parts[:count])
        if count == 1:
            spec = top_level_spec(inner)
        else:
            spec = PathFinder.find_spec(inner, list(specs[-1].submodule_search_locations or []))
        if spec is None:
            break
        specs.append(spec)
    return specs


def top_level_spec(name: str) -> ModuleSpec | None:
    """The spec of a module that lies in no package."""
    try:
        return find_spec(name)
    except ValueError:  # a module without a spec, such as __main__
        return None


def is_own(spec: ModuleSpec) -> bool:
    """Whether a module is the user's own."""
    top = spec.name.split(".")[0]
    return top not in OURS and top not in sys.stdlib_module_names and not is_installed(spec)


def is_installed(spec: ModuleSpec) -> bool:
    """Whether a module lies where Python or pip puts modules; an editable package lies elsewhere."""
    places = [Path(place).resolve() for place in spec.submodule_search_locations or [spec.origin or ""]]
    return any(
        PACKAGES & set(place.parts) or any(place.is_relative_to(folder) for folder in INSTALLED) for place in places
    )


def source_of(spec: ModuleSpec, key: str | None, name: str) -> ast.Module:
    """The parsed source; that of a package without __init__.py is empty. Where there is none: the bytes as a constant
    if no config names the function, else a UserError."""
    what = "the target" if key is None else f"{key}={name}"
    if spec.origin is None and spec.submodule_search_locations is not None:
        return ast.Module([], [])
    path = Path(spec.origin or "")
    if path.suffix != ".py" or not path.is_file():
        if key is None and path.is_file():
            return _bytes_of(path)
        remedy = (
            "define what it uses in the notebook"
            if key is None
            else f"add version: 1 to the YAML file of the {key.partition('.')[0]}, and raise it with every change"
        )
        raise UserError(
            f"{what} needs {spec.name}, which has no Python source ({spec.origin}), so a change of it could not be "
            f"noticed; {remedy}"
        )
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        if key is None and spec.name not in sys.modules:
            return _bytes_of(path)
        raise UserError(f"{what} needs {path}, which is no valid Python ({error})") from error
    require_as_loaded(spec.name, str(path), tree)
    return tree


def _bytes_of(path: Path) -> ast.Module:
    """What stands for an extension, or for a file that a notebook tries to import and does without."""
    return ast.Module([ast.Expr(ast.Constant(hashlib.sha256(path.read_bytes()).hexdigest()))], [])


def imports_of(tree: ast.Module, spec: ModuleSpec) -> Iterator[str]:
    """The names of all modules that a module may import, inside functions too."""
    package = spec.name if spec.submodule_search_locations is not None else spec.name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            outer = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*outer, *([node.module] if node.module else [])])
            yield from ([base] if base else [])
            yield from (f"{base}.{alias.name}" for alias in node.names if base)  # each may be a module of a package
