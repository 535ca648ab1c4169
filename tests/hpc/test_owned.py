"""Files that a job follows: only its own account can have written them. As root, others are played by `chown`."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hpc.errors import ClusterError
from hpc.jobs.attempts import attempts_of
from hpc.jobs.owned import private_folder, read_owned, write_owned
from hpc.jobs.payload import FILE, Payload
from tests.hpc.conftest import PROGRAM, Composed, sweep_of

STRANGER = 4711
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@contextmanager
def umask(mode: int) -> Iterator[None]:
    before = os.umask(mode)
    try:
        yield
    finally:
        os.umask(before)


def given_away(path: Path) -> None:
    os.chown(path, STRANGER, STRANGER)


def replaced_by_a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def replaced_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


BROKEN = [
    pytest.param(given_away, f"belongs to the account {STRANGER}, and this is 0", marks=needs_root),
    (lambda path: path.chmod(0o664), r"may be written by others \(mode 664\)"),
    (lambda path: path.chmod(0o646), r"may be written by others \(mode 646\)"),
    (replaced_by_a_link, "cannot be read, or is a link"),
    (replaced_by_a_pipe, "is no file"),
    (Path.unlink, "cannot be read"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_only_a_file_of_this_account_is_read(tmp_path: Path, change: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "payload.json"
    with umask(0o002):
        write_owned(path, b"before")
        write_owned(path, b"{}")
    assert read_owned(path) == b"{}"
    change(path)
    with pytest.raises(ClusterError, match=message):
        read_owned(path)


@pytest.mark.parametrize(("change", "message"), BROKEN[:3:2])
def test_a_job_runs_nothing_of_others(
    experiment: Composed, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    """It ends with one line, which is also what `status` shows."""
    sweep = sweep_of(experiment, tmp_path)
    Payload.of(sweep, [sweep.steps[0]], max_requeues=0).write(tmp_path)
    change(tmp_path / FILE)
    command = [sys.executable, "-m", "hpc", PROGRAM, str(tmp_path), "0"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert process.stderr.startswith("error: ")
    assert len(process.stderr.splitlines()) == 1, process.stderr
    (attempt,) = attempts_of(tmp_path, 0)
    with pytest.raises(ClusterError, match=message):
        raise ClusterError(attempt.message)
    assert not sweep.steps[0].folder.exists()


def test_code_is_where_others_cannot_enter(experiment: Composed, tmp_path: Path) -> None:
    """Also under a root that a group shares; there nobody but its owner may then rename it."""
    with umask(0o002):
        tmp_path.chmod(0o2775)
        code = sweep_of(experiment, tmp_path, "hpc").snapshot()
    assert (code / "hpc" / "__init__.py").is_file()
    assert code.parent.stat().st_mode & 0o777 == 0o700
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o3775


@needs_root
def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    private = private_folder(others / "code")
    os.chown(private, STRANGER, STRANGER)
    with pytest.raises(ClusterError, match=f"belongs to the account {STRANGER}"):
        private_folder(private)
    private.rename(others / "elsewhere")
    (others / "code").symlink_to("elsewhere")
    with pytest.raises(ClusterError, match="is no folder but a link or a file"):
        private_folder(others / "code")
    others.chmod(0o775)
    os.chown(others, STRANGER, STRANGER)
    with pytest.raises(ClusterError, match=rf"its owner has to run chmod \+t {others}$"):
        private_folder(others / "code")
