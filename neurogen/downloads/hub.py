"""Repositories of the Hugging Face Hub in the cache of huggingface_hub.

in:  the name of a repository, and which of its files are read together
out: the folder of one of its revisions with these files, also in a process without a network

The revision is the one that is here already, else the newest. files.py brings the files, since huggingface_hub does not
go on with what a killed process has begun; then huggingface_hub links them as it links its own. A note in our own cache
says which files belong together, so that nobody has to ask the Hub again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from neurogen import store
from neurogen.cache import cache_folder
from neurogen.downloads.files import Algorithm, Digest, NotBrought, RemoteFile, alone_with, network_errors
from neurogen.downloads.names import require_digits, require_inside
from neurogen.downloads.network import is_offline
from neurogen.downloads.repository import BRANCH, Repository, hub_cache, hub_setting
from neurogen.downloads.source import Advance, Missing, Source
from neurogen.errors import UserError, advising, one_line
from neurogen.progress import BYTES, Progress

LARGE = 20 * 2**20  # bytes; what is smaller is brought without a word
Reader = Callable[[str], Path]  # of a file of the repository by its name


@dataclass(frozen=True)
class Listing:
    """All files of a revision by their names."""

    revision: str
    files: dict[str, RemoteFile]


class NotOnHub(UserError):
    """What the Hub does not give, or cannot be asked for."""


@dataclass(frozen=True)
class Part:
    """Files of a repository that are read together.

    `choose` returns which of these names are read; its second argument makes a file readable. It raises UserError where
    they are not enough. `explain` makes the user's line of an error.
    """

    repository: Repository
    purpose: str
    choose: Callable[[Sequence[str], Reader], list[str]]
    explain: Callable[[BaseException], str]

    def folder_here(self) -> Path | None:
        """The folder with all of these files; None where they are not known to be here. Asks no network."""
        snapshot = self.repository.snapshot
        if snapshot is None or not self._note.is_file():
            return None
        noted = store.read_json(self._note)
        is_whole = noted["revision"] == snapshot.name and all((snapshot / name).exists() for name in noted["files"])
        return snapshot if is_whole else None

    def folder_unverified(self) -> Path | None:
        """The folder that is here, if what lies in it is enough to be read; None otherwise."""
        return self.repository.snapshot if self._unverified() else None

    def accept(self) -> None:
        """Take what is here, which another program may have brought, for all that is read."""
        snapshot, names = self.repository.snapshot, self._unverified()
        assert snapshot is not None
        self._note_files(snapshot.name, names)

    def _unverified(self) -> list[str]:
        """The names of those files of the folder here that are read; none where they are not enough."""
        snapshot = self.repository.snapshot
        if snapshot is None:
            return []
        names = [str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file()]
        try:
            return self.choose(names, lambda name: snapshot / name)
        except UserError:
            return []

    def missing(self) -> Missing:
        """What the Hub has to give. Raises NotOnHub."""
        if is_offline():
            self.refuse_download()
        with self._alone():
            listing = self._listing()
            files = [listing.files[name] for name in self._chosen(listing)]
        absent = {file.path: file for file in files if not file.path.exists()}
        return Missing(sum((file.num_bytes or 0) - file.num_here for file in absent.values()))

    def bring(self, advance: Advance) -> None:
        """Download what is missing. Raises NotOnHub, and UserError where it cannot be kept."""
        with self._alone():
            if self.folder_here() is not None:  # another process was faster
                return
            listing = self._listing()
            names = self._chosen(listing)
            for name in names:
                self._bring_file(listing, name, advance)
            with advising(store.Unwritable, f"free some space or set {hub_setting()}=FOLDER"):
                store.write_text(self.repository.folder / "refs" / BRANCH, listing.revision)
            self._note_files(listing.revision, names)

    @property
    def _note(self) -> Path:
        """Which files of which revision these are."""
        return cache_folder() / "hub" / f"{self.repository.folder_name}.{self.purpose}.json"

    def _note_files(self, revision: str, names: Sequence[str]) -> None:
        with advising(store.Unwritable, "free some space or set NEUROGEN_CACHE=FOLDER"):
            store.write_json(self._note, {"revision": revision, "files": names})

    def refuse_download(self) -> NoReturn:
        """Where nothing may be downloaded. Raises NotOnHub."""
        from huggingface_hub.errors import OfflineModeIsEnabled

        error = OfflineModeIsEnabled("nothing is downloaded here, HF_HUB_OFFLINE=1")
        raise NotOnHub(self.explain(error)) from error

    def _chosen(self, listing: Listing) -> list[str]:
        """The names of the files that are read. Raises UserError where they are not enough."""
        try:
            return self.choose(list(listing.files), lambda name: self._bring_file(listing, name, lambda _: None))
        except NotOnHub:
            raise
        except UserError as error:
            raise UserError(f"{self.repository.title}, as the hub has it, cannot be used: {error}") from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the repository for this process, and say so where the cache cannot be written."""
        try:
            with alone_with(hub_cache() / ".locks" / f"{self.repository.folder_name}.lock", self.repository.name):
                yield
        except OSError as error:
            raise UserError(
                f"{self.repository.title} cannot be kept: the cache of the hub, {hub_cache()}, cannot be written "
                f"({error.strerror or one_line(error)}); set {hub_setting()}=FOLDER to a folder that can be written"
            ) from error

    def _listing(self) -> Listing:
        """The files of the revision that is here, else of the newest. Raises NotOnHub."""
        from huggingface_hub import HfApi, hf_hub_url
        from huggingface_hub.errors import RevisionNotFoundError

        repository = self.repository

        def ask(revision: str | None) -> Listing:
            info = HfApi().repo_info(repository.name, repo_type=repository.kind, revision=revision, files_metadata=True)
            files = {}
            require_digits(repository.name, info.sha)
            for item in info.siblings or []:
                require_inside(repository.name, item.rfilename)
                require_digits(repository.name, item.lfs.sha256 if item.lfs else item.blob_id)
                digest = Digest(Algorithm.SHA256, item.lfs.sha256) if item.lfs else Digest(Algorithm.GIT, item.blob_id)
                address = hf_hub_url(repository.name, item.rfilename, repo_type=repository.kind, revision=info.sha)
                path = repository.folder / "blobs" / digest.value
                files[item.rfilename] = RemoteFile(path, (address,), digest, item.size, is_on_hub=True)
            return Listing(info.sha, files)

        try:
            try:
                return ask(repository.revision)
            except RevisionNotFoundError:  # its history was rewritten
                return ask(None)
        except network_errors() as error:
            raise NotOnHub(self.explain(error)) from error

    def _bring_file(self, listing: Listing, name: str, advance: Advance) -> Path:
        """A file of the repository, in the folder of the revision."""
        from huggingface_hub import hf_hub_download

        file = listing.files[name]
        snapshot = self.repository.folder / "snapshots" / listing.revision
        if (snapshot / name).exists():
            return snapshot / name
        try:
            if not file.path.exists():
                file.path.parent.mkdir(parents=True, exist_ok=True)
                file.bring(advance)
            return Path(
                hf_hub_download(
                    self.repository.name,
                    name,
                    repo_type=self.repository.kind,
                    revision=listing.revision,
                    cache_dir=hub_cache(),
                )
            )
        except NotBrought as error:
            raise NotOnHub(self.explain(error.answer)) from error
        except OSError as error:
            if error.errno is not None:  # of a file, not of the network
                raise
            raise NotOnHub(self.explain(error)) from error


@dataclass(frozen=True)
class HubSource(Source):
    """Files of the Hub as a source."""

    part: Part

    @property
    def name(self) -> str:
        """A backbone or a dataset by its name."""
        return self.part.repository.title

    @property
    def place(self) -> Path:
        """The cache of the Hub."""
        return hub_cache()

    @property
    def setting(self) -> str:
        """The variable that moves this cache with all else of the Hub."""
        return hub_setting()

    def folder(self, download: bool = True) -> Path:
        """The folder with all of these files, which are brought here where they are missing.

        Raises NotOnHub where they cannot be had, and UserError where they cannot be kept.
        """
        if not self.is_here():
            missing = self.missing() if download else self.part.refuse_download()
            if missing.num_bytes < LARGE:
                self.bring(lambda _: None)
            else:
                with Progress(f"fetching {self.name}", missing.num_bytes, unit=BYTES) as progress:
                    self.bring(progress.advance)
        folder = self.part.folder_here() or self.part.folder_unverified()
        assert folder is not None
        return folder

    def is_here(self) -> bool:
        """Whether all of its files are; offline, or in a cache that is read-only, whether there are files to read."""
        can_bring = not is_offline() and (os.access(self.place, os.W_OK) or not self.place.exists())
        return self.part.folder_here() is not None or (not can_bring and self._is_readable())

    def missing(self) -> Missing:
        """What the Hub has to give; nothing where it does not answer and there are files that can be read.

        Raises NotOnHub.
        """
        try:
            return self.part.missing()
        except NotOnHub:
            if not self._is_readable():
                raise
            return Missing(0)

    def bring(self, advance: Advance) -> None:
        """Download it. Raises NotOnHub as `missing` does, and UserError where it cannot be kept."""
        try:
            self.part.bring(advance)
        except NotOnHub:
            if not self._is_readable():
                raise
            self.part.accept()  # other ranks wait for it

    def _is_readable(self) -> bool:
        """Whether what is here is enough to be read. Other programs may have brought it."""
        return self.part.folder_unverified() is not None
