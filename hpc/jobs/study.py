"""What a plan gives the launcher: the merged graph of a sweep, and how its steps are run.

The manifest says the same on disk, in the folder of the last step. It is written before anything is submitted, and is
all that `status` needs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.errors import ClusterError
from hpc.jobs.graph import Step, identity, in_order
from hpc.ranks.zero import Zero

MANIFEST = "manifest.json"
LARGEST_COPY = 2**20  # bytes


@dataclass(frozen=True)
class Study:
    """`last` is the step that everything hangs on; it runs when all others have ended, however they ended."""

    last: Step
    root: Path
    make_runtime: Callable[[], Any]
    interrupted: type[BaseException]
    refused: type[BaseException]
    packages: tuple[str, ...]  # and modules whose code goes with the sweep
    configs: tuple[str, ...]  # of the sweep's points, as YAML
    overrides: tuple[tuple[str, ...], ...]
    values: Callable[[], Sequence[float | None]]  # one per point, once the study is done
    commit: str | None  # of that code
    zero: Zero  # how several ranks share a step
    dry_run: bool  # only say what it would be
    show_estimates: Callable[[], None]
    show: Callable[[], None]  # what was measured

    @property
    def steps(self) -> list[Step]:
        return in_order([self.last])

    def write_manifest(self) -> Path:
        """Where the study stands, with the composed configs beside it."""
        path = self.last.folder / MANIFEST
        path.parent.mkdir(parents=True, exist_ok=True)
        steps = [
            {
                "identity": identity(step),
                "kind": step.kind,
                "label": step.label,
                "folder": str(step.folder.absolute()),
                "marker": str(step.marker.absolute()),
                "needs": [identity(needed) for needed in step.needs],
            }
            for step in self.steps
        ]
        values = {"root": str(self.root.absolute()), "points": [list(one) for one in self.overrides], "steps": steps}
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(values, indent=1) + "\n")
        os.replace(temporary, path)
        configs = path.parent / "configs"
        configs.mkdir(exist_ok=True)
        for number, text in enumerate(self.configs):
            (configs / f"{number:04d}.yaml").write_text(text)
        return path

    def snapshot(self) -> Path:
        """A copy of the code, named by its content: what is edited later does not change what waits in a queue.

        Large files (data, compiled modules) are linked to where they are. Raises ClusterError where a package cannot be
        imported.
        """
        files = {
            path: Path(source.name) / path.relative_to(source)
            for source in map(source_of, self.packages)
            for path in (sorted(source.rglob("*")) if source.is_dir() else [source])
            if path.is_file() and "__pycache__" not in path.parts
        }
        digest = hashlib.sha256()
        for path, name in files.items():
            content = bytes(path) if is_large(path) else path.read_bytes()
            digest.update(f"{name} {len(content)}\n".encode() + content)
        place = self.root.absolute() / "code" / digest.hexdigest()[:12]
        if place.exists():
            return place
        temporary = place.with_name(f".{place.name}.{os.getpid()}")
        for path, name in files.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            if is_large(path):
                (temporary / name).symlink_to(path.resolve())
            else:
                shutil.copyfile(path, temporary / name)
        (temporary / "COMMIT").write_text(f"{self.commit or ''}\n")
        try:
            os.replace(temporary, place)
        except OSError:
            if not place.exists():
                raise
            shutil.rmtree(temporary)  # another submission of the same code was first
        return place


def is_large(path: Path) -> bool:
    return path.stat().st_size > LARGEST_COPY


def source_of(package: str) -> Path:
    """The folder of a package, the file of a module."""
    found = importlib.util.find_spec(package)
    if found is None:
        raise ClusterError(f"{package} cannot be imported here, so no job could; is its folder on PYTHONPATH?")
    if found.submodule_search_locations:
        return Path(found.submodule_search_locations[0])
    assert found.origin is not None
    return Path(found.origin)
