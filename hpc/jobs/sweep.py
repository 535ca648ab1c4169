"""A sweep as the launcher gets it: the points of one command merged to a graph, and how its steps are run.

in:  a plan, a function of the program that knows what steps are
out: Sweep in memory; on disk its manifest, its configs, and a copy of the code that its jobs run

The manifest lies in the folder of the last step. It is written before anything is submitted, and `status` needs nothing
else.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hpc.errors import ClusterError
from hpc.jobs.files import put_in_place, read_json, write_bytes, write_json, writing
from hpc.jobs.graph import Step, identity, in_order
from hpc.jobs.owned import private_folder
from hpc.ranks.zero import Zero
from hpc.types import require_types

MANIFEST = "manifest.json"
LARGEST_COPY = 2**20  # bytes


@dataclass(frozen=True)
class ManifestStep:
    """A step as `status` knows it."""

    identity: str
    kind: str
    label: str
    folder: str
    marker: str
    needs: list[str]  # identities

    @staticmethod
    def of(step: Step) -> ManifestStep:
        """That of a step."""
        return ManifestStep(
            identity=identity(step),
            kind=step.kind,
            label=step.label,
            folder=str(step.folder.absolute()),
            marker=str(step.marker.absolute()),
            needs=[identity(needed) for needed in step.needs],
        )

    @property
    def is_done(self) -> bool:
        """Whether its marker exists."""
        return Path(self.marker).exists()


@dataclass(frozen=True)
class Manifest:
    """What a sweep consists of."""

    root: str
    points: list[list[str]]  # the overrides of each
    steps: list[ManifestStep]  # in order; the last one ends the sweep
    command: str = ""  # which submitted it last; earlier versions did not write it down

    @staticmethod
    def read(folder: Path) -> Manifest:
        """That of the sweep in `folder`, whose root may have been moved since. Raises ClusterError if there is none,
        or it is broken.
        """
        path = folder / MANIFEST
        if not path.is_file():
            there = ", ".join(sorted(str(path.parent) for path in folder.glob(f"sweeps/*/{MANIFEST}")))
            advice = f"allowed: {there}" if there else "give that of a sweep, root/sweeps/NAME"
            raise ClusterError(f"{folder} is no folder of a sweep, without {MANIFEST}; {advice}")
        return read_json(
            path, partial(_manifest, folder.absolute().parent.parent), "the sweep's command makes it again"
        )


def _manifest(now: Path, values: Any) -> Manifest:
    """From what JSON holds, of a sweep whose root is `now`."""
    before = Path(values["steps"][-1]["folder"]).parent.parent

    def moved(place: str) -> str:
        return str(now / Path(place).relative_to(before)) if Path(place).is_relative_to(before) else place

    steps = [
        ManifestStep(**{**step, "folder": moved(step["folder"]), "marker": moved(step["marker"])})
        for step in values["steps"]
    ]
    manifest = Manifest(moved(values["root"]), values["points"], steps, values.get("command", ""))
    for item in (manifest, *steps):
        require_types(item)
    return manifest


@dataclass(frozen=True)
class Sweep:
    """The graph of a sweep, and what its steps need to run.

    All steps hang on `last`, which runs when the others have ended, whether they succeeded or not.
    """

    last: Step
    root: Path
    program: str  # the module whose steps these are, a hpc.jobs.payload.Program
    runtime: Mapping[str, Any]  # what its runtime_from takes
    inputs: Mapping[str, Any]  # what its read_inputs takes
    packages: tuple[str, ...]  # packages and modules whose code is copied
    configs: tuple[Mapping[str, Any], ...]  # of the points, as Hydra composed them
    overrides: tuple[tuple[str, ...], ...]  # of the points
    values: Callable[[], Sequence[float | None]]  # one per point once the sweep is done; None: it failed
    commit: str | None  # of that code
    zero: Zero  # how several ranks share a step
    libraries: tuple[str, ...]  # distributions that the code uses; a site check compares their versions
    site_check: bool  # let short jobs see first whether the nodes have what the others need
    dry_run: bool  # show what would be submitted, and submit nothing
    fetch: Callable[[], None]  # bring here what the steps read from outside
    stop_after: str | None  # "fetch": submit and run nothing; "check": the site check alone, and wait for it
    environment: Mapping[str, str]  # variables of every job, which cluster.environment may override
    show_estimates: Callable[[], None]  # print the expected cost
    show: Callable[[], None]  # print the results

    @property
    def steps(self) -> list[Step]:
        """All of them, each after those that it needs."""
        return in_order([self.last])

    def write_manifest(self, checks: Sequence[ManifestStep] = ()) -> Path:
        """Write the manifest; `checks` come before the steps. Returns its path."""
        path = self.last.folder / MANIFEST
        steps = [*checks, *map(ManifestStep.of, self.steps)]
        points = [list(overrides) for overrides in self.overrides]
        command = f"cd {shlex.quote(os.getcwd())} && {shlex.join(sys.orig_argv)}"
        write_json(path, asdict(Manifest(str(self.root.absolute()), points, steps, command)))
        return path

    def write_configs(self) -> None:
        """Write every point's config beside the manifest."""
        configs = self.last.folder / "configs"
        configs.mkdir(parents=True, exist_ok=True)
        for index, text in enumerate(as_yaml(self.configs)):
            write_bytes(configs / f"{index:04d}.yaml", text.encode())

    def code_folder(self) -> Path:
        """Where `snapshot` puts the code. Raises ClusterError as it does."""
        return self._folder_of(_files_of(self.packages))

    def _folder_of(self, files: dict[Path, Path]) -> Path:
        return code_folder_of(self.root) / _digest(files)

    def snapshot(self) -> Path:
        """Copy the code to root/code-ACCOUNT/HASH, so that later edits do not change jobs that wait.

        Returns the folder, which other accounts cannot enter. The hash is that of the content. Large files (data,
        compiled modules) are linked instead of copied. Raises ClusterError if a package cannot be imported, others
        could replace the copy, or it cannot be written.
        """
        files = _files_of(self.packages)
        folder = self._folder_of(files)
        private_folder(folder.parent)
        if folder.exists():
            return folder
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
        with writing(folder):
            try:
                _copy(files, temporary)
                (temporary / "COMMIT").write_text(f"{self.commit or ''}\n", encoding="utf-8")
                put_in_place(temporary, folder)
            except OSError:
                shutil.rmtree(temporary, ignore_errors=True)
                if not folder.exists():  # else another submission of the same code was faster
                    raise
        return folder


def _copy(files: Mapping[Path, Path], folder: Path) -> None:
    for path, name in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if _is_large(path):
            (folder / name).symlink_to(path.resolve())
        else:
            shutil.copyfile(path, folder / name)


def code_folder_of(root: Path) -> Path:
    """Where the code lies that jobs of this account run: who can write there is this account."""
    return root.absolute() / f"code-{os.geteuid()}"


def as_yaml(configs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The configs as OmegaConf.to_yaml writes them, with ${…} replaced; sections that are equal are written once.

    A ${ that is left is part of a text, and OmegaConf reads it as such.
    """
    from omegaconf import DictConfig, OmegaConf  # `status` reads sweeps without it

    sections: dict[str, str] = {}
    for config in configs:
        values: Any = OmegaConf.to_container(config, resolve=True) if isinstance(config, DictConfig) else config
        values = _literal(values)
        for section in ({name: value} for name, value in values.items()):
            if repr(section) not in sections:
                sections[repr(section)] = OmegaConf.to_yaml(section)
        yield "".join(sections[repr({name: value})] for name, value in values.items())


def _literal(value: Any) -> Any:
    """The same values, where no text refers to another key."""
    if isinstance(value, Mapping):
        return {key: _literal(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_literal(member) for member in value]
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda match: f"{2 * match[1]}\\${{", value)
    return value


def _files_of(packages: Sequence[str]) -> dict[Path, Path]:
    """Every file of these packages and modules, with its path in the snapshot."""
    return {
        path: Path(source.name) / path.relative_to(source)
        for source in map(_source_of, packages)
        for path in (sorted(source.rglob("*")) if source.is_dir() else [source])
        if path.is_file() and "__pycache__" not in path.parts
    }


def _digest(files: dict[Path, Path]) -> str:
    digest = hashlib.sha256()
    for path, name in files.items():
        content = bytes(path) if _is_large(path) else path.read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


def _is_large(path: Path) -> bool:
    return path.stat().st_size > LARGEST_COPY


def _source_of(package: str) -> Path:
    """The folder of a package, or the file of a module."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ClusterError(f"{package} cannot be imported here, so no job could; is its folder on PYTHONPATH?")
    if spec.submodule_search_locations:
        return Path(spec.submodule_search_locations[0])
    assert spec.origin is not None
    return Path(spec.origin)
