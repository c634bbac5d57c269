"""A small hub on this machine: as much of huggingface.co's protocol as a download needs, and its ways to fail."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GOOD_TOKEN = "hf_good"


@dataclass
class Request:
    """What a client asked for."""

    method: str
    path: str
    host: str
    range: str | None
    token: str | None


@dataclass
class HubServer:
    """`repos`: name -> path -> content. Files that end in .safetensors are large ones: they are announced with a
    sha256 and served from a second address, as on the real hub.

    `gated`: names that want `GOOD_TOKEN`. `breaks`: path -> bytes after which each of the next transfers breaks
    off. `served`: path -> other bytes than those announced. `statuses`: path -> statuses of the next answers.
    `ignores_ranges`: always the whole file.
    """

    repos: dict[str, dict[str, bytes]]
    gated: set[str] = field(default_factory=set)
    breaks: dict[str, list[int]] = field(default_factory=dict)
    served: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    ignores_ranges: bool = False
    without_checksums: bool = False
    requests: list[Request] = field(default_factory=list)

    def __enter__(self):
        hub = self

        class Handler(_Handler):
            state = hub

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_error) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def storage(self) -> str:
        """The same server by another name, so that a client takes it for another host."""
        return f"http://localhost:{self._http.server_port}"

    def transfers(self, path: str) -> list[Request]:
        """The requests for a file's bytes."""
        return [
            r
            for r in self.requests
            if r.method == "GET" and r.path.endswith(f"/{path}") and "/api/" not in r.path
        ]


def is_large(path: str) -> bool:
    return path.endswith(".safetensors")


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def etag(path: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if is_large(path) else blob_id(content)


class _Handler(BaseHTTPRequestHandler):
    state: HubServer

    def log_message(self, *_arguments) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ") or None
        host = self.headers["Host"].split(":")[0]
        self.state.requests.append(Request(self.command, path, host, self.headers["Range"], token))
        if path.startswith("/api/models/"):
            return self._listing(path.removeprefix("/api/models/").removesuffix("/revision/main"))
        if path.startswith("/storage/"):
            owner, name, file = path.removeprefix("/storage/").split("/", 2)
            return self._bytes(file, self.state.repos[f"{owner}/{name}"][file])
        if "/resolve/" not in path:
            return self._refuse(404, None)
        owner, name, _resolve, commit, file = path.removeprefix("/").split("/", 4)
        assert commit == COMMIT, "files must be asked for at the commit that was listed"
        return self._resolve(f"{owner}/{name}", file, token)

    def _listing(self, repo: str) -> None:
        if self.state.statuses.get(repo):
            return self._refuse(self.state.statuses[repo].pop(0), None)
        if repo not in self.state.repos:
            return self._refuse(404, "RepoNotFound")
        siblings = []
        for path, content in self.state.repos[repo].items():
            entry = {"rfilename": path, "size": len(content), "blobId": blob_id(content)}
            if is_large(path):
                entry["lfs"] = {"sha256": etag(path, content), "size": len(content), "pointerSize": 134}
            if self.state.without_checksums:
                entry = {"rfilename": path}
            siblings.append(entry)
        body = {
            "id": repo,
            "modelId": repo,
            "sha": COMMIT,
            "siblings": siblings,
            "private": False,
            "tags": [],
        }
        return self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _resolve(self, repo: str, file: str, token: str | None) -> None:
        if repo in self.state.gated and token != GOOD_TOKEN:
            return self._refuse(403 if token else 401, "GatedRepo")
        content = self.state.repos[repo].get(file)
        if content is None:
            return self._refuse(404, "EntryNotFound")
        if self.state.statuses.get(file):
            return self._refuse(self.state.statuses[file].pop(0), None)
        headers = {"X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if not is_large(file):
            return self._bytes(file, content, headers | {"ETag": f'"{etag(file, content)}"'})
        headers |= {"X-Linked-Etag": f'"{etag(file, content)}"', "X-Linked-Size": str(len(content))}
        return self._send(302, b"", headers | {"Location": f"{self.state.storage}/storage/{repo}/{file}"})

    def _bytes(self, file: str, content: bytes, headers: dict[str, str] | None = None) -> None:
        content = self.state.served.get(file, content)
        status, start = 200, 0
        if self.headers["Range"] and not self.state.ignores_ranges:
            status, start = 206, int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return self._refuse(416, None)
            headers = (headers or {}) | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        breaks = self.state.breaks.get(file) if self.command == "GET" else None
        return self._send(status, content[start:], headers or {}, breaks.pop(0) if breaks else None)

    def _refuse(self, status: int, code: str | None) -> None:
        self._send(status, b"{}", {"X-Error-Code": code} if code else {})

    def _send(self, status: int, body: bytes, headers: dict[str, str], stop_after: int | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:stop_after])
