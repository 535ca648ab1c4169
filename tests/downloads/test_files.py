"""One file of a web server: begun anew or in the middle, cut, refused, or another one than it should be."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from neurogen.downloads.files import Algorithm, Digest, NotBrought, RemoteFile
from neurogen.downloads.network import cause_of
from neurogen.errors import UserError
from tests.outside import Web, use_here

CONTENT = bytes(range(256)) * 4000


@pytest.fixture(autouse=True)
def _here(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_here(web, tmp_path / "outside", monkeypatch)
    web.files["/file"] = CONTENT


def remote(web: Web, folder: Path, *paths: str) -> RemoteFile:
    digest = Digest(Algorithm.MD5, hashlib.md5(CONTENT).hexdigest())
    return RemoteFile(folder / "file", tuple(f"{web.address}{path}" for path in paths or ("/file",)), digest)


@pytest.mark.parametrize("begun", [0, 1, 700_000, len(CONTENT), len(CONTENT) + 9])
def test_a_file_goes_on_where_it_was_left(web: Web, tmp_path: Path, begun: int) -> None:
    file = remote(web, tmp_path)
    file.part.write_bytes((CONTENT + b"more than it is")[:begun])
    counts: list[int] = []
    file.bring(counts.append)
    assert file.path.read_bytes() == CONTENT
    assert not file.part.exists()
    rest = len(CONTENT) - begun if begun <= len(CONTENT) else len(CONTENT)
    assert sum(counts) == web.sent["/file"] == rest


def test_a_server_without_ranges_is_asked_for_all_of_it(web: Web, tmp_path: Path) -> None:
    web.ranges = False
    file = remote(web, tmp_path)
    file.part.write_bytes(CONTENT[:1000])
    file.bring(lambda _: None)
    assert file.path.read_bytes() == CONTENT


def test_a_connection_that_breaks_goes_on_at_its_byte(web: Web, tmp_path: Path) -> None:
    web.cut["/file"] = 300_000
    file = remote(web, tmp_path)
    file.bring(lambda _: None)
    assert file.path.read_bytes() == CONTENT
    assert web.sent["/file"] == len(CONTENT)
    assert web.requests["GET /file from 300000"] == 1


def test_garbage_is_thrown_away_and_the_next_address_asked(web: Web, tmp_path: Path) -> None:
    web.files["/other"] = CONTENT
    web.garbage.add("/file")
    file = remote(web, tmp_path, "/file", "/other")
    file.bring(lambda _: None)
    assert file.path.read_bytes() == CONTENT


def test_a_server_that_sends_more_than_it_said_is_not_listened_to(web: Web, tmp_path: Path) -> None:
    web.sizes["/file"] = len(CONTENT) - 1000
    file = remote(web, tmp_path)
    with pytest.raises(NotBrought, match=r"sent more than the 1,023,000 bytes of file"):
        file.bring(lambda _: None)
    assert file.num_here <= len(CONTENT) - 1000
    assert not file.path.exists()


def test_garbage_everywhere_is_described(web: Web, tmp_path: Path) -> None:
    web.garbage.add("/file")
    file = remote(web, tmp_path, "/file", "/nothing")
    with pytest.raises(NotBrought) as caught:
        file.bring(lambda _: None)
    message = str(caught.value)
    assert f"{web.address}/file: sent 47 bytes ('<html>Please log in to the gue' …), which is not file" in message
    assert f"{web.address}/nothing: 404" in message
    assert list(tmp_path.glob("file*")) == []


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("http://me:secret@127.0.0.1:9", "…@127.0.0.1:9"),
        ("me:secret@127.0.0.1:9", "…@127.0.0.1:9"),
        ("http://me:a/b@secret@127.0.0.1:9", "…@127.0.0.1:9"),
        ("no address", "no address"),
    ],
)
def test_a_wrong_proxy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, shown: str
) -> None:
    """Without the account and the password."""
    from huggingface_hub.utils import close_session

    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    close_session()  # it reads the proxies when it is made
    file = RemoteFile(tmp_path / "file", ("http://example.org/file",), Digest(Algorithm.MD5, ""))
    with pytest.raises(UserError) as caught:
        file.size()
    monkeypatch.delenv(variable)
    close_session()
    assert f"the proxy {variable}={shown}; correct or unset that variable" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_no_password_is_shown_where_an_error_leaves_the_scheme_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://me:secret@proxy.example.org:3128")
    cause = cause_of(OSError("no way to me:secret@proxy.example.org:3128"), "http://example.org/file")
    assert cause.startswith("no way to …@proxy.example.org:3128, asked through the proxy http_proxy=…@proxy.")
    assert "secret" not in cause_of(OSError("me:secret was refused"), "http://example.org/file")
    monkeypatch.setenv("http_proxy", "u@proxy.example.org:3128")
    assert cause_of(OSError("a tunnel"), "http://example.org/file").startswith("a tunnel, asked through")
    monkeypatch.setenv("http_proxy", "http://token@proxy.example.org:3128")
    assert cause_of(OSError("no token, said token@proxy"), "http://example.org/file").startswith("no …, said …@proxy")
    monkeypatch.setenv("http_proxy", "http://@proxy.example.org:3128")
    assert cause_of(OSError("a: b@c"), "http://example.org/file").startswith("a: b@c, asked through")
