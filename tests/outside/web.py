"""A web server on loopback: a Hugging Face Hub with the routes that are used here, and files under any path."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from huggingface_hub.utils import close_session

TOKEN = "hf_of_the_test"
BLOCK = 64 * 1024  # bytes
NAME = r"[\w.-]+/[\w.-]+"


class Web(ThreadingHTTPServer):
    """`hub` holds the files of each model by its name, those of a dataset under "datasets/OWNER/NAME".

    `files` holds what is under any other path.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Routes)
        self.hub: dict[str, dict[str, bytes]] = {}
        self.files: dict[str, bytes] = {}
        self.private: set[str] = set()  # repositories that were made so
        self.requests: Counter[str] = Counter()  # "GET /path", and "GET /path from N" for ranges
        self.sent: Counter[str] = Counter()  # bytes by path
        self.cut: dict[str, int] = {}  # end the next answer for a path after so many bytes
        self.garbage: set[str] = set()  # paths that answer with a page instead
        self.gated: set[str] = set()  # repositories whose files need TOKEN
        self.sizes: dict[str, int] = {}  # what HEAD says instead of the truth
        self.commits: dict[str, str] = {}  # what is said instead of the true commit
        self.ranges = True  # whether a part of a file may be asked for
        self.slow_s = 0.0  # seconds before every block
        self.complete = threading.Event()  # while it is not set, the last of several blocks is kept back
        self.complete.set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit_of(self, repository: str) -> str:
        true = hashlib.sha1(repr(sorted(self.hub[repository].items())).encode()).hexdigest()
        return self.commits.get(repository, true)

    def downloads(self) -> dict[str, int]:
        """How often the content of each file was asked for."""
        asked = (key for key in self.requests if key.startswith("GET ") and " from " not in key and "/api/" not in key)
        return {key.removeprefix("GET "): self.requests[key] for key in asked}

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


def git_digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Routes(BaseHTTPRequestHandler):
    server: Web

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.reply({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            about = json.loads(body)
            name = f"{about['organization']}/{about['name']}"
            self.server.hub.setdefault(name, {})
            self.server.private |= {name} if about.get("visibility") == "private" else set()
            self.reply({"url": f"{self.server.address}/{name}", "id": name})
        elif self.path == "/api/validate-yaml":
            self.reply({"errors": [], "warnings": []})
        elif re.fullmatch(rf"/api/models/{NAME}/preupload/main", self.path):
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            self.reply({"files": [file | {"shouldIgnore": False, "oid": None} for file in files]})
        elif match := re.fullmatch(rf"/api/models/({NAME})/commit/main", self.path):
            lines = [json.loads(line) for line in body.splitlines()]
            files = {line["value"]["path"]: line["value"]["content"] for line in lines if line["key"] == "file"}
            self.server.hub[match[1]] |= {path: base64.b64decode(text) for path, text in files.items()}
            commit = self.server.commit_of(match[1])
            url = f"{self.server.address}/{match[1]}/commit/{commit}"
            self.reply({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})
        else:
            self.reply({"error": f"no route {self.path}"}, 404)

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        start = int(match[1]) if (match := re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))) else 0
        self.server.requests[f"{self.command} {path}"] += 1
        if start:
            self.server.requests[f"{self.command} {path} from {start}"] += 1
        if path in self.server.files:
            self.send(self.server.files[path], {}, start=start, path=path)
        elif match := re.fullmatch(rf"/api/(models|datasets)/({NAME})(?:/revision/([\w-]+))?", path):
            self.describe(("" if match[1] == "models" else "datasets/") + match[2], match[3])
        elif match := re.fullmatch(rf"/api/models/({NAME})/tree/[\w-]+/?", path):
            files = self.server.hub.get(match[1], {})
            entries = [{"type": "file", "path": name, "size": len(content)} for name, content in files.items()]
            self.reply([entry | {"oid": git_digest(files[str(entry["path"])])} for entry in entries])
        elif match := re.fullmatch(rf"/((?:datasets/)?{NAME})/resolve/[\w-]+/(.+)", path):
            self.resolve(match[1], match[2], start, path)
        else:
            self.reply({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET  # noqa: N815

    def describe(self, repository: str, revision: str | None) -> None:
        files = self.server.hub.get(repository)
        if files is None:
            self.reply({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif revision not in (None, "main", self.server.commit_of(repository)):
            self.reply({"error": "Revision not found"}, 404, {"X-Error-Code": "RevisionNotFound"})
        else:
            sizes = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
            siblings = [entry | {"blobId": git_digest(files[str(entry["rfilename"])])} for entry in sizes]
            for entry in siblings:
                content = files[str(entry["rfilename"])]
                if is_large(str(entry["rfilename"])):
                    lfs = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 1}
                    entry["lfs"] = lfs
            self.reply({"id": repository, "sha": self.server.commit_of(repository), "siblings": siblings})

    def resolve(self, repository: str, name: str, start: int, path: str) -> None:
        files = self.server.hub.get(repository)
        if files is None:
            self.reply({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif repository in self.server.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.reply({"error": "gated"}, 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "refused"})
        elif name not in files:
            self.reply({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        else:
            content = files[name]
            etag = hashlib.sha256(content).hexdigest() if is_large(name) else git_digest(content)
            headers = {"X-Repo-Commit": self.server.commit_of(repository), "ETag": f'"{etag}"'}
            self.send(content, headers, start=start, path=path)

    def reply(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send(json.dumps(value).encode(), {"Content-Type": "application/json"} | (headers or {}), status)

    def send(self, content: bytes, headers: dict[str, str], status: int = 200, start: int = 0, path: str = "") -> None:
        web = self.server
        if path in web.garbage:
            content, start = b"<html>Please log in to the guest network</html>", 0
        length = len(content)
        if start and web.ranges:
            status, content = 206, content[start:]
            headers = headers | {"Content-Range": f"bytes {start}-{length - 1}/{length}"}
        self.send_response(status)
        size = web.sizes.get(path, len(content)) if self.command == "HEAD" else len(content)
        for name, value in ({"Content-Length": str(size)} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if path in web.cut:
            content = content[: web.cut.pop(path)]
            self.close_connection = True
        for first in range(0, len(content), BLOCK):
            time.sleep(web.slow_s)
            if 0 < first >= len(content) - BLOCK:
                web.complete.wait()
            web.sent[path] += len(content[first : first + BLOCK])  # first: the client may be done before this thread
            self.wfile.write(content[first : first + BLOCK])

    def log_message(self, *about: object) -> None:
        pass


def is_large(name: str) -> bool:
    """Whether the Hub keeps it as LFS, with another digest."""
    return name.endswith((".safetensors", ".bin", ".parquet"))


@contextmanager
def serving(port: int = 0) -> Iterator[Web]:
    close_session()  # it may have been made while a test had set a proxy
    with Web(port) as web:
        threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield web
        web.shutdown()
