"""A Hugging Face Hub on loopback: the few routes that uploading a folder and downloading a snapshot use."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_of_the_test"


class Hub(ThreadingHTTPServer):
    """`repositories` holds the files of each, by name; every commit replaces the files that it names."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Routes)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit_of(self, repository: str) -> str:
        files = sorted(self.repositories[repository].items())
        return hashlib.sha1(repr(files).encode()).hexdigest()


class Routes(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.reply({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            about = json.loads(body)
            name = f"{about['organization']}/{about['name']}"
            self.server.repositories.setdefault(name, {})
            self.server.private |= {name} if about.get("visibility") == "private" else set()
            self.reply({"url": f"{self.server.address}/{name}", "id": name})
        elif self.path == "/api/validate-yaml":
            self.reply({"errors": [], "warnings": []})
        elif re.fullmatch(r"/api/models/\w+/[\w-]+/preupload/main", self.path):
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            self.reply({"files": [file | {"shouldIgnore": False, "oid": None} for file in files]})
        elif found := re.fullmatch(r"/api/models/(\w+/[\w-]+)/commit/main", self.path):
            lines = [json.loads(line) for line in body.splitlines()]
            files = {line["value"]["path"]: line["value"]["content"] for line in lines if line["key"] == "file"}
            self.server.repositories[found[1]] |= {path: base64.b64decode(text) for path, text in files.items()}
            commit = self.server.commit_of(found[1])
            url = f"{self.server.address}/{found[1]}/commit/{commit}"
            self.reply({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})
        else:
            self.reply({"error": f"no route {self.path}"}, 404)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        found = re.match(r"(?:/api/models)?/(\w+/[\w-]+)/(revision|tree|resolve)/[\w-]+/?(.*)", path)
        files = self.server.repositories.get(found[1]) if found else None
        if found is None or files is None:
            self.reply({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif found[2] == "revision":
            siblings = [{"rfilename": file} for file in files]
            self.reply({"id": found[1], "sha": self.server.commit_of(found[1]), "siblings": siblings, "private": False})
        elif found[2] == "tree":
            entries = [{"type": "file", "path": file, "size": len(content)} for file, content in files.items()]
            oids = [hashlib.sha1(content).hexdigest() for content in files.values()]
            self.reply([entry | {"oid": oid} for entry, oid in zip(entries, oids, strict=True)])
        elif found[3] not in files:
            self.reply({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        else:
            self.send(files[found[3]], {"X-Repo-Commit": self.server.commit_of(found[1])})

    do_HEAD = do_GET  # noqa: N815

    def reply(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send(json.dumps(value).encode(), {"Content-Type": "application/json"} | (headers or {}), status)

    def send(self, content: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        etag = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "Content-Length": str(len(content))}
        for name, value in (etag | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *about: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Hub]:
    with Hub() as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        yield hub
        hub.shutdown()
