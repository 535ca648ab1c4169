"""Files appear whole or not at all; one process works in a folder at a time."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Event

import pytest
import torch

from neurogen import digests, store
from neurogen.errors import Interrupted, UserError, advising
from neurogen.generator.usable import _shards_in
from neurogen.training.checkpoint import _newest
from neurogen.training.history import read_rows

STRANGER = 65534  # the number of another account


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    store.write_json(path, {"a": 1})

    def fail(temporary: Path) -> None:
        temporary.write_text("half", encoding="utf-8")
        raise OSError("no space left on device")

    with pytest.raises(UserError, match=r"value.json \(no space left.*free some space or set root=FOLDER"):
        store.write_file(path, fail)
    assert store.read_json(path) == {"a": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["value.json"]


DEEP = "[" * 200_000  # json goes down into it until Python stops it


def test_json_that_is_nested_too_deeply_is_broken_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every reader of files that others may write."""
    path = tmp_path / "value.json"
    path.write_text(DEEP, encoding="utf-8")
    with pytest.raises(UserError, match=f"{path} cannot be read"):
        store.read_json(path)
    with pytest.raises(UserError, match=f"{path} is no list of weights"):
        _shards_in(path)
    assert list(read_rows(path)) == []
    monkeypatch.setattr(digests, "_path", lambda *_: path)
    assert digests._kept(tmp_path, "sha256") == {}
    store.write_tensors(tmp_path / "step-1.safetensors", {"a": torch.zeros(1)}, {"progress": DEEP})
    assert _newest(tmp_path) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another account for a moment")
def test_two_accounts_mark_a_shared_root_at_the_same_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sticky folder the later one cannot replace the marker of the earlier one, and need not."""
    root, written = Path(tempfile.mkdtemp()), store.write_text
    root.chmod(0o3777)

    def written_late(path: Path, text: str) -> None:
        os.seteuid(0)
        written(path, text)
        os.seteuid(STRANGER)
        written(path, text)

    monkeypatch.setattr(store, "write_text", written_late)
    try:
        os.seteuid(STRANGER)
        with pytest.raises(UserError):
            written_late(root / "other", "")  # so it is refused
        store.mark_root(root)
        assert {path.name for path in root.iterdir()} == {"other", store.ROOT_MARKER}
    finally:
        os.seteuid(0)
        shutil.rmtree(root)


def test_a_full_disk_is_named_and_keeps_what_was_there(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]
    if not shutil.which("mount") or subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        store.write_json(disk / "metrics.json", {"a": 1})
        with pytest.raises(UserError, match=r"big.safetensors .*No space left"):
            store.write_tensors(disk / "big.safetensors", {"x": torch.zeros(2**18)})
        with pytest.raises(UserError, match=r"metrics.json .*No space left"):
            store.write_json(disk / "metrics.json", {"a": "b" * 2**17})
        assert store.read_json(disk / "metrics.json") == {"a": 1}
        assert [item.name for item in disk.iterdir()] == ["metrics.json"]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"a": ')
    with pytest.raises(UserError, match=r"metrics.json cannot be read"):
        store.read_json(tmp_path / "metrics.json")


def test_a_second_process_says_that_it_waits_and_a_dead_holder_lets_go(tmp_path: Path) -> None:
    hold = (
        "import sys, time, pathlib, threading; from neurogen import store\n"
        "with store.exclusive(pathlib.Path(sys.argv[1]), threading.Event()):"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", f"{hold}\n print('held', flush=True); time.sleep(60)", tmp_path],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    waiter = subprocess.Popen(
        [sys.executable, "-c", f"{hold} print('in', flush=True)", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiter.stderr is not None
    assert "waiting: another process works on" in waiter.stderr.readline()
    time.sleep(0.5)
    assert waiter.poll() is None
    holder.kill()
    out, errors = waiter.communicate(timeout=30)
    assert (out, errors) == ("in\n", f"  going on: {tmp_path} is free\n")
    holder.wait()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot write .*file/step .*set root=FOLDER"),
        store.exclusive(tmp_path / "file" / "step", Event()),
    ):
        pass


def test_who_waits_can_be_stopped(tmp_path: Path) -> None:
    stop = Event()
    stop.set()
    with store.exclusive(tmp_path, Event()), pytest.raises(Interrupted), store.exclusive(tmp_path, stop):
        pass


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    half = tmp_path / "checkpoints" / ".step-000002.123.tmp.safetensors"
    half.write_text("half")
    store.write_json(tmp_path / "metrics.json", {})
    store.remove_temporaries(tmp_path)
    assert not half.exists()
    assert (tmp_path / "metrics.json").exists()


def test_what_lies_elsewhere_has_other_advice(tmp_path: Path) -> None:
    """A caller knows better than those that it calls what the user gave."""
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(store.Unwritable, match=r"cannot write .*file/x.json \(.*\); give another out=FILE$") as caught,
        advising(store.Unwritable, "give another out=FILE"),
        advising(store.Unwritable, "give another path"),
    ):
        store.write_json(tmp_path / "file" / "x.json", {})
    assert isinstance(caught.value.__cause__, OSError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301
