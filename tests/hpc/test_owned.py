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

from hpc.errors import ClusterError, Unwritable
from hpc.jobs.attempts import attempts_of
from hpc.jobs.files import open_to_append, write_bytes
from hpc.jobs.owned import own_folder, private_folder, read_owned, shared_folder
from hpc.jobs.payload import FILE, Payload
from hpc.jobs.queue import Queue
from neurogen.errors import UserError
from neurogen.training.history import append_rows
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
        write_bytes(path, b"before", mode=0o644)
        write_bytes(path, b"{}", mode=0o644)
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


@pytest.mark.parametrize("mode", [0o750, 0o755, 0o1700, 0o1755])
def test_a_job_may_enter_the_code_after_the_whole_root_was_opened_to_readers(tmp_path: Path, mode: int) -> None:
    """As by `chmod -R g+rX`. A job accepts 700 alone."""
    code = private_folder(tmp_path / "code")
    code.chmod(mode)
    assert stat.S_IMODE(private_folder(tmp_path / "code").stat().st_mode) == 0o700
    code.chmod(mode | 0o020)
    with pytest.raises(ClusterError, match=r"may be written by others .*; remove it once its jobs have ended"):
        private_folder(tmp_path / "code")


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


def test_nobody_else_can_put_a_link_where_a_job_opens_files(tmp_path: Path) -> None:
    """Its log, its probe: whatever the umask, others can neither write into the batch's folder nor rename it."""
    tmp_path.chmod(0o2775)
    queue = Queue(tmp_path)
    with umask(0o002):
        shared_folder(queue.folder)
        batch = queue.new_batch_folder("ng-tune-a")
    assert stat.S_IMODE(batch.stat().st_mode) & 0o7022 == stat.S_IMODE(batch.stat().st_mode) & 0o2000
    for folder in (tmp_path, queue.folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o3775
    batch.chmod(0o775)
    with pytest.raises(ClusterError, match=r"may be written by others \(mode \d*775\); remove it once its jobs"):
        queue.new_batch_folder("ng-tune-a")


@needs_root
def test_who_could_rename_what_jobs_write_is_trusted_or_refused(tmp_path: Path) -> None:
    """In a sticky folder that is its owner. So the queue belongs to this account, or to the owner of the root."""
    root = tmp_path / "runs"
    root.mkdir()
    root.chmod(0o3775)
    given_away(root)
    to_do = (
        rf"the owner of {root} \(the account {STRANGER}\) has to run chmod g\+ws,\+t {root}; mkdir {root}/queue; "
        rf"chmod g\+ws,\+t {root}/queue; or give a root= of your own$"
    )
    with pytest.raises(ClusterError, match=rf"queue is missing, and its owner can rename .*; {to_do}"):
        shared_folder(root / "queue")
    (root / "queue").mkdir()
    given_away(root / "queue")
    (root / "queue").chmod(0o2775)
    with pytest.raises(ClusterError, match=rf"its owner has to run chmod \+t {root}/queue$"):
        shared_folder(root / "queue")
    (root / "queue").chmod(0o3775)
    assert shared_folder(root / "queue").is_dir()
    os.chown(root / "queue", STRANGER + 1, -1)
    with pytest.raises(
        ClusterError, match=rf"belongs to the account {STRANGER + 1}, which can rename .*; then {to_do}"
    ):
        shared_folder(root / "queue")


@pytest.mark.parametrize("make", [shared_folder, own_folder, private_folder])
@pytest.mark.parametrize("is_broken", [False, True])
def test_a_link_is_no_folder(tmp_path: Path, make: Callable[[Path], Path], is_broken: bool) -> None:
    if not is_broken:
        (tmp_path / "elsewhere").mkdir()
    (tmp_path / "queue").symlink_to("elsewhere")
    with pytest.raises(ClusterError, match="queue is no folder but a link or a file; remove it, and submit again"):
        make(tmp_path / "queue")


def test_files_that_grow_do_not_grow_through_a_link(tmp_path: Path) -> None:
    """The log of a local step, and the history of a stage, lie where every account that shares the root may write."""
    victim, link = tmp_path / "victim", tmp_path / "step.log"
    victim.write_text("before")
    link.symlink_to(victim)
    with pytest.raises(Unwritable, match=f"cannot write {link} .*; remove it"):
        open_to_append(link)
    with pytest.raises(UserError, match=f"cannot write {link}"):
        append_rows(link, [{"loss": 1.0}])
    assert victim.read_text() == "before"
    link.unlink()
    with open_to_append(link) as file:
        file.write(b"a")
    append_rows(link, [{"loss": 1.0}])
    assert link.read_text() == 'a{"loss": 1.0}\n'


@pytest.mark.parametrize("through_a_link", [False, True])
def test_folders_above_that_others_may_write_into_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], through_a_link: bool
) -> None:
    """Often a project's folder, which its users cannot change. They could rename `runs`."""
    lab, root = tmp_path / "lab", tmp_path / "lab" / "runs"
    root.mkdir(parents=True)
    lab.chmod(0o2775)
    if through_a_link:
        (tmp_path / "link").symlink_to(root)
        root = tmp_path / "link"
    private_folder(root / "code-0")
    warning = (
        f"  warning: others may write into {lab}, and put a folder of theirs in place of yours there; its owner should"
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{warning} run chmod +t {lab}")
    lab.chmod(0o3775)
    private_folder(root / "code-0")
    assert capsys.readouterr().err == ""


def test_a_job_runs_no_other_payload_of_its_account(experiment: Composed, tmp_path: Path) -> None:
    """Others can put an older one in its place."""
    sweep = sweep_of(experiment, tmp_path)
    older = Payload.of(sweep, [sweep.steps[1]], max_requeues=0).write(tmp_path)
    digest = Payload.of(sweep, [sweep.steps[0]], max_requeues=0).write(tmp_path)
    assert Payload.read(tmp_path, digest) == Payload.read(tmp_path)
    command = [sys.executable, "-m", "hpc", PROGRAM, str(tmp_path), f"sha256={older}"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    problem = f"{tmp_path}/payload.json is not the file that this job was submitted with; submit again"
    assert (process.returncode, process.stderr) == (1, f"error: {problem}\n")
    (attempt,) = attempts_of(tmp_path, 0)
    assert attempt.message == problem
    assert not sweep.steps[1].folder.exists()
