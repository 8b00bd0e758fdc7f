"""A local server that speaks enough of the Hub's HTTP protocol for the real client, both ways.

Large files (.safetensors, .bin) are "LFS": the resolve URL answers 302 to another origin
("localhost" instead of "127.0.0.1"), as the Hub does with its CDN. Any test may use the fixture
`hub_server`.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest


@dataclass
class Repo:
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    token: str | None = None  # needed to see it at all
    gated: bool = False  # everybody sees the listing, nobody gets a file


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]  # lower-case names


class HubServer:
    """Repositories and what to do wrong with them; `publish` makes commits."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}  # LFS files by their SHA-256
        self.requests: list[Request] = []
        self.cuts = 0  # so many of the next LFS downloads break off half way
        self.damage: bool | int = False  # so many LFS downloads, or all, have one bit flipped
        self.writer = "a-token-that-may-write"
        self.status: int | None = None  # answer everything with this
        self.failing: dict[str, int] = {}  # or only routes of these names, such as "commit"
        self.messages: list[str] = []  # of the commits that clients made
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.hub = self
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def publish(
        self,
        repo: str,
        files: Path | dict[str, bytes | str],
        revision: str = "main",
        *,
        token: str | None = None,
        gated: bool = False,
    ) -> str:
        """Makes a commit out of a folder or a dict, lets `revision` point to it, returns it."""
        if isinstance(files, Path):
            found = [path for path in files.rglob("*") if path.is_file()]
            files = {path.relative_to(files).as_posix(): path.read_bytes() for path in found}
        files = {n: data.encode() if isinstance(data, str) else data for n, data in files.items()}
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        entry = self.repos.setdefault(repo, Repo())
        entry.token, entry.gated = token, gated
        entry.commits[commit] = files
        entry.refs[revision] = commit
        self.blobs |= {_sha256(data): data for name, data in files.items() if _is_lfs(name)}
        return commit

    def paths(self, method: str | None = None) -> list[str]:
        return [r.path for r in self.requests if method in (None, r.method)]

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def _is_lfs(name: str) -> bool:
    return name.endswith((".safetensors", ".bin"))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _oid(name: str, data: bytes | None) -> str | None:
    """What the Hub calls the content of a file; it is the name of its blob in a cache, too."""
    if data is None or _is_lfs(name):
        return data and _sha256(data)
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    routes = (
        (r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", "listing"),
        (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", "file"),
        (r"/cdn/([0-9a-f]{64})", "cdn"),
        (r"/api/repos/create", "create"),
        (r"/api/validate-yaml", "validate"),
        (r"/api/models/([^/]+/[^/]+)/preupload/([^/]+)", "preupload"),
        (r"/([^/]+/[^/]+).git/info/lfs/objects/batch", "batch"),
        (r"/store/([0-9a-f]{64})", "store"),
        (r"/api/models/([^/]+/[^/]+)/commit/([^/]+)", "commit"),
        (r"/api/models/([^/]+/[^/]+)/branch/([^/]+)", "branch"),
    )

    def log_message(self, *args) -> None:
        """Keeps the test output clean."""

    def do_GET(self) -> None:
        hub: HubServer = self.server.hub
        path = urlsplit(self.path).path
        headers = {name.lower(): value for name, value in self.headers.items()}
        hub.requests.append(Request(self.command, path, headers))
        if hub.status is not None:
            self.body()
            return self.answer(hub.status)
        for pattern, name in self.routes:
            if match := re.fullmatch(pattern, path):
                if name in hub.failing:
                    self.body()
                    return self.answer(hub.failing[name])
                return getattr(self, name)(hub, *(g and unquote(g) for g in match.groups()))
        return self.answer(404)

    do_HEAD = do_POST = do_PUT = do_GET

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def json(self, value: object, status: int = 200) -> None:
        self.answer(status, json.dumps(value).encode(), Content_Type="application/json")

    # -- uploads ----------------------------------------------------------------------------------

    def may_write(self, hub: HubServer) -> bool:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token != hub.writer:
            self.answer(403 if token else 401)
        return token == hub.writer

    def create(self, hub: HubServer) -> None:
        asked = json.loads(self.body())
        if not self.may_write(hub):
            return
        repo = f"{asked.get('organization') or 'someone'}/{asked['name']}"
        if repo in hub.repos:
            return self.json({"url": f"{hub.url}/{repo}"}, 409)
        # Clients before 2.0 say it the first way.
        private = asked.get("private") or asked.get("visibility") == "private"
        hub.publish(repo, {}, token=hub.writer if private else None)
        self.json({"url": f"{hub.url}/{repo}"})

    def validate(self, hub: HubServer) -> None:
        self.body()
        self.json({"errors": [], "warnings": []})

    def branch(self, hub: HubServer, repo: str, name: str) -> None:
        self.body()
        if not self.may_write(hub):
            return
        refs = hub.repos[repo].refs
        if name in refs:
            return self.answer(409)
        refs[name] = refs["main"]
        self.json({})

    def preupload(self, hub: HubServer, repo: str, revision: str) -> None:
        asked = json.loads(self.body())
        if not self.may_write(hub) or self.refused(hub, repo, revision):
            return
        entry = hub.repos[repo]
        there = entry.commits[entry.refs[revision]]
        self.json({"files": [
            {"path": f["path"], "uploadMode": "lfs" if _is_lfs(f["path"]) else "regular",
             "shouldIgnore": False, "oid": _oid(f["path"], there.get(f["path"]))}
            for f in asked["files"]
        ]})  # fmt: skip

    def batch(self, hub: HubServer, repo: str) -> None:
        asked = json.loads(self.body())
        if not self.may_write(hub):
            return
        self.json({"transfer": "basic", "objects": [
            {**o} if o["oid"] in hub.blobs else  # nothing to do
            {**o, "actions": {"upload": {"href": f"{hub.url}/store/{o['oid']}"}}}
            for o in asked["objects"]
        ]})  # fmt: skip

    def store(self, hub: HubServer, digest: str) -> None:
        data = self.body()
        if _sha256(data) != digest:
            return self.answer(400)
        hub.blobs[digest] = data
        self.answer(200)

    def commit(self, hub: HubServer, repo: str, revision: str) -> None:
        lines = [json.loads(line) for line in self.body().splitlines()]
        if not self.may_write(hub) or self.refused(hub, repo, revision):
            return
        entry = hub.repos[repo]
        files = dict(entry.commits[entry.refs[revision]])
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                hub.messages.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = hub.blobs[value["oid"]]
        commit = hub.publish(repo, files, revision, token=entry.token)
        url = f"{hub.url}/{repo}/commit/{commit}"
        self.json({"commitUrl": url, "commitOid": commit, "success": True})

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refused(self, hub: HubServer, repo: str, revision: str) -> bool:
        """Answers what the Hub does to those who ask for what is not there or not theirs."""
        entry, token = hub.repos.get(repo), self.headers.get("Authorization", "")
        if entry is None or (entry.token and token != f"Bearer {entry.token}"):
            # The Hub does not tell strangers whether a private repository exists.
            self.answer(404 if token else 401, X_Error_Code="RepoNotFound")
        elif revision not in entry.refs and revision not in entry.commits:
            self.answer(404, X_Error_Code="RevisionNotFound")
        else:
            return False
        return True

    def listing(self, hub: HubServer, repo: str, revision: str | None) -> None:
        revision = revision or "main"
        if self.refused(hub, repo, revision):
            return
        commit = hub.repos[repo].refs.get(revision, revision)
        names = hub.repos[repo].commits[commit]
        info = {"id": repo, "sha": commit, "siblings": [{"rfilename": name} for name in names]}
        self.answer(200, json.dumps(info).encode(), Content_Type="application/json")

    def file(self, hub: HubServer, repo: str, revision: str, name: str) -> None:
        if self.refused(hub, repo, revision):
            return
        entry = hub.repos[repo]
        if entry.gated:
            return self.answer(403, X_Error_Code="GatedRepo")
        commit = entry.refs.get(revision, revision)
        data = entry.commits[commit].get(name)
        if data is None:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        if _is_lfs(name):
            digest = _sha256(data)
            return self.answer(
                302,
                X_Repo_Commit=commit,
                X_Linked_Etag=f'"{digest}"',
                X_Linked_Size=str(len(data)),
                Location=f"http://localhost:{hub.port}/cdn/{digest}",
            )
        return self.answer(200, data, X_Repo_Commit=commit, ETag=f'"{_oid(name, data)}"')

    def cdn(self, hub: HubServer, digest: str) -> None:
        data = hub.blobs[digest]
        if hub.damage:
            hub.damage = hub.damage if hub.damage is True else hub.damage - 1
            data = data[:-1] + bytes([data[-1] ^ 1])
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        rest = data[start : int(asked[2]) + 1 if asked and asked[2] else None]
        span = f"bytes {start}-{start + len(rest) - 1}/{len(data)}"
        headers = {"Content_Range": span} if asked else {}
        if hub.cuts > 0:
            hub.cuts -= 1
            headers["Content-Length"] = str(len(rest))
            rest = rest[: len(rest) // 2]
            self.close_connection = True
        self.answer(206 if asked else 200, rest, **headers)


@pytest.fixture
def hub_server(tmp_path, monkeypatch):
    """An empty Hub that the real client talks to, with an empty cache and no saved token."""
    from huggingface_hub import close_session, constants

    server = HubServer()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf-cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # plain HTTP uploads
    close_session()  # a client made earlier may know other proxies
    yield server
    close_session()
    server.close()
