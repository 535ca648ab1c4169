"""Digests of files are kept, and a changed file is never taken for the old one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurogen import digests as module
from neurogen.digests import digests
from neurogen.errors import UserError

NAMES = ["a", "b", "sub/c"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEUROGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(folder: Path, **contents: str) -> Path:
    for name, content in contents.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of this moment count as old."""
    monkeypatch.setattr(module, "SETTLED_S", -60.0)


def test_the_digest_is_that_of_the_content(tmp_path: Path, cache: Path) -> None:
    folder = write(tmp_path / "data", a="1", b="", sub__c="3")
    assert digests(folder, NAMES) == [hashlib.sha256(text.encode()).hexdigest() for text in ("1", "", "3")]
    assert digests(folder / "a", [""], "md5") == [hashlib.md5(b"1").hexdigest()]
    (folder / "link").symlink_to(folder / "a")
    assert digests(folder, ["link"]) == digests(folder, ["a"])


def test_a_kept_digest_is_not_read_again(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "data", a="1", b="2")
    settled(monkeypatch)
    first = digests(folder, ["a", "b"])
    read: list[str] = []
    monkeypatch.setattr(module, "_read", lambda folder, names, algorithm: [read.append(name) or "x" for name in names])
    assert digests(folder, ["a", "b"]) == first
    assert read == []
    write(folder, a="3")
    assert digests(folder, ["a", "b"]) == ["x", first[1]]
    assert read == ["a"]


@pytest.mark.parametrize("keep_times", [False, True])
def test_other_content_of_the_same_size_and_time(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, keep_times: bool
) -> None:
    folder = write(tmp_path / "data", a="1")
    settled(monkeypatch)
    before, status = digests(folder, ["a"]), (folder / "a").stat()
    if keep_times:  # another file in its place
        write(folder, b="2")
        os.replace(folder / "b", folder / "a")
    else:
        write(folder, a="2")
    os.utime(folder / "a", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digests(folder, ["a"]) != before


def test_what_changed_a_moment_ago_is_read_again(tmp_path: Path, cache: Path) -> None:
    folder = write(tmp_path / "data", a="1")
    digests(folder, ["a"])
    assert not cache.exists()


@given(
    contents=st.lists(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["", "x", "y"])), min_size=2, max_size=5)
)
@settings(max_examples=30, deadline=None)
def test_whatever_was_kept_before_the_digests_are_those_of_now(
    tmp_path_factory: pytest.TempPathFactory, contents: list[dict[str, str]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("data")
        patch.setenv("NEUROGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        settled(patch)
        for present in contents:
            write(folder, **{name.replace("/", "__"): text for name, text in present.items()})
            names = [name for name in NAMES if (folder / name).exists()]
            expected = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]
            assert digests(folder, names) == expected


def test_a_cache_that_cannot_be_written_costs_time_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "data", a="1")
    write(tmp_path, file="")
    monkeypatch.setenv("NEUROGEN_CACHE", str(tmp_path / "file" / "cache"))
    module._say_not_kept.cache_clear()
    settled(monkeypatch)
    for _ in range(2):
        assert digests(folder, ["a"]) == [hashlib.sha256(b"1").hexdigest()]
    printed = capsys.readouterr().err
    assert printed.count("digests of files cannot be kept") == 1
    assert "set NEUROGEN_CACHE=FOLDER" in printed


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(UserError, match=r"data/gone cannot be read \(No such file or directory\)"):
        digests(write(tmp_path / "data", a="1"), ["gone"])
